%% Erlang's SSH server, run by `erl -noshell -eval`: PORT, a folder with a host key, LOGIN and PASSWORD are in the environment.
begin
    {ok, _} = application:ensure_all_started(ssh),
    Folder = os:getenv("HOST_KEYS"),
    %% What it is asked to run is a command of the shell, with its exit code, instead of Erlang.
    Run = fun(Command) ->
        Port = open_port({spawn_executable, "/bin/sh"}, [{args, ["-c", Command]}, binary, exit_status, use_stdio]),
        Wait = fun Again(Seen) ->
            receive
                {Port, {data, Data}} -> Again([Seen, Data]);
                {Port, {exit_status, 0}} -> {ok, Seen};
                {Port, {exit_status, Code}} -> {error, [Seen, io_lib:format("exit ~b~n", [Code])]}
            end
        end,
        Wait([])
    end,
    {ok, _} = ssh:daemon({127, 0, 0, 1}, list_to_integer(os:getenv("PORT")), [
        {system_dir, Folder}, {user_dir, Folder}, {auth_methods, "password"},
        {user_passwords, [{os:getenv("LOGIN"), os:getenv("PASSWORD")}]},
        {exec, {direct, Run}}, {subsystems, [ssh_sftpd:subsystem_spec([{cwd, "/"}])]}, {tcpip_tunnel_in, true}
    ]),
    receive never -> ok end
end.
