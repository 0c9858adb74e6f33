/* A client made with libssh. Arguments and exit codes as in paramiko_client.py. libssh 0.10 has no jump of its own: its
 * ProxyCommand runs `ssh -W` of the configuration that PROXY_COMMAND holds. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <libssh/callbacks.h>
#include <libssh/libssh.h>
#include <libssh/sftp.h>

enum { ENDED_BY_SIGNAL = 254, FAILED = 255, BLOCK = 32768, CHANNELS_MAX = 64, WAIT_MS = 20, LIMIT_S = 20 };

static ssh_session session;

static void fail(const char *what) {
    fprintf(stderr, "%s: %s\n", what, ssh_get_error(session));
    exit(FAILED);
}

struct end {
    int code;
    int known;
};

static void on_status(ssh_session s, ssh_channel c, int status, void *data) {
    struct end *end = data;
    (void)s, (void)c;
    end->code = status;
    end->known = 1;
}

static void on_signal(ssh_session s, ssh_channel c, const char *name, int core, const char *message, const char *lang,
                      void *data) {
    struct end *end = data;
    (void)s, (void)c, (void)core, (void)message, (void)lang;
    fprintf(stderr, "signal %s\n", name);
    end->code = ENDED_BY_SIGNAL;
    end->known = 1;
}

static void write_all(int fd, const char *data, int length) {
    while (length > 0) {
        ssize_t done = write(fd, data, length);
        if (done < 0) {
            if (errno == EAGAIN || errno == EINTR) {
                struct pollfd wait = {fd, POLLOUT, 0};
                poll(&wait, 1, -1);
                continue;
            }
            exit(FAILED);
        }
        data += done;
        length -= done;
    }
}

/* What has come on one stream; -1 once it is over. */
static int drain(ssh_channel channel, int is_stderr) {
    char block[BLOCK];
    int got, total = 0;
    while ((got = ssh_channel_read_nonblocking(channel, block, sizeof block, is_stderr)) > 0) {
        write_all(is_stderr ? 2 : 1, block, got);
        total += got;
    }
    return got == SSH_ERROR ? -1 : total;
}

/* Standard input to the channel and its output back, until it ends; input is written as far as the window lets it. */
static void relay(ssh_channel channel) {
    char block[BLOCK];
    int held = 0, over = 0;
    while (!ssh_channel_is_eof(channel) && !ssh_channel_is_closed(channel)) {
        uint32_t room = ssh_channel_window_size(channel);
        struct pollfd ready[2] = {{ssh_get_fd(session), POLLIN, 0}, {0, POLLIN, 0}};
        if (drain(channel, 0) < 0 || drain(channel, 1) < 0)
            break;
        poll(ready, over || held || room == 0 ? 1 : 2, held && room > 0 ? 0 : WAIT_MS);
        if (!over && !held && room > 0 && ready[1].revents) {
            held = read(0, block, sizeof block);
            if (held <= 0) {
                over = 1;
                held = 0;
                ssh_channel_send_eof(channel);
            }
        }
        if (held > 0 && room > 0) {
            int some = held < (int)room ? held : (int)room;
            int done = ssh_channel_write(channel, block, some);
            if (done < 0)
                break;
            memmove(block, block + done, held - done);
            held -= done;
        }
    }
    drain(channel, 0);
    drain(channel, 1);
}

static int code_of(ssh_channel channel, struct end *end) {
    /* The status may come behind the end of the output. */
    for (int n = 0; !end->known && n < LIMIT_S * 1000 / WAIT_MS; n++) {
        if (ssh_channel_is_closed(channel) || ssh_channel_poll_timeout(channel, WAIT_MS, 0) == SSH_ERROR)
            break;
    }
    return end->known ? end->code : FAILED;
}

static ssh_channel started(const char *command, int terminal, struct end *end, struct ssh_channel_callbacks_struct *calls) {
    ssh_channel channel = ssh_channel_new(session);
    memset(calls, 0, sizeof *calls);
    calls->userdata = end;
    calls->channel_exit_status_function = on_status;
    calls->channel_exit_signal_function = on_signal;
    ssh_callbacks_init(calls);
    ssh_set_channel_callbacks(channel, calls);
    if (ssh_channel_open_session(channel) != SSH_OK)
        fail("open");
    if (terminal && ssh_channel_request_pty_size(channel, "xterm", 100, 30) != SSH_OK)
        fail("terminal");
    if (ssh_channel_request_exec(channel, command) != SSH_OK)
        fail("exec");
    return channel;
}

static int run(const char *command, int terminal) {
    struct end end = {0, 0};
    struct ssh_channel_callbacks_struct calls;
    ssh_channel channel = started(command, terminal, &end, &calls);
    relay(channel);
    return code_of(channel, &end);
}

/* So many channels at once, their output one after the other. */
static int many(int count, const char *command) {
    ssh_channel channels[CHANNELS_MAX];
    struct end ends[CHANNELS_MAX] = {{0, 0}};
    struct ssh_channel_callbacks_struct calls[CHANNELS_MAX];
    int most = 0;
    if (count > CHANNELS_MAX)
        return FAILED;
    for (int n = 0; n < count; n++)
        channels[n] = started(command, 0, &ends[n], &calls[n]);
    for (int n = 0; n < count; n++) {
        char block[BLOCK];
        int got, code;
        while ((got = ssh_channel_read(channels[n], block, sizeof block, 0)) > 0)
            write_all(1, block, got);
        code = code_of(channels[n], &ends[n]);
        most = code > most ? code : most;
    }
    return most;
}

static int forward(const char *host, int port) {
    ssh_channel channel = ssh_channel_new(session);
    if (ssh_channel_open_forward(channel, host, port, "127.0.0.1", 0) != SSH_OK)
        fail("forward");
    relay(channel);
    return 0;
}

static int copy(int put, const char *from, const char *to) {
    char block[BLOCK];
    ssize_t got, done = 0;
    sftp_session sftp = sftp_new(session);
    if (sftp == NULL || sftp_init(sftp) != SSH_OK)
        fail("sftp");
    int local = open(put ? from : to, put ? O_RDONLY : O_WRONLY | O_CREAT | O_TRUNC, 0600);
    sftp_file remote = sftp_open(sftp, put ? to : from, put ? O_WRONLY | O_CREAT | O_TRUNC : O_RDONLY, 0600);
    if (local < 0 || remote == NULL)
        fail("file");
    while ((got = put ? read(local, block, sizeof block) : sftp_read(remote, block, sizeof block)) > 0) {
        done = put ? sftp_write(remote, block, got) : write(local, block, got);
        if (done != got)
            fail("copy");
    }
    if (got < 0 || sftp_close(remote) != SSH_OK || close(local) != 0)
        fail("copy");
    sftp_free(sftp);
    return 0;
}

static void connect_to(char **a) {
    long limit = LIMIT_S;
    int no = 0;
    ssh_key key = NULL, certificate = NULL;
    session = ssh_new();
    ssh_options_set(session, SSH_OPTIONS_PROCESS_CONFIG, &no);
    ssh_options_set(session, SSH_OPTIONS_HOST, a[1]);
    ssh_options_set(session, SSH_OPTIONS_PORT_STR, a[2]);
    ssh_options_set(session, SSH_OPTIONS_USER, a[3]);
    ssh_options_set(session, SSH_OPTIONS_KNOWNHOSTS, a[6]);
    ssh_options_set(session, SSH_OPTIONS_TIMEOUT, &limit);
    if (strcmp(a[7], "-") != 0)
        ssh_options_set(session, SSH_OPTIONS_PROXYCOMMAND, getenv("PROXY_COMMAND"));
    if (ssh_connect(session) != SSH_OK)
        fail("connect");
    if (ssh_session_is_known_server(session) != SSH_KNOWN_HOSTS_OK)
        fail("host key");
    if (ssh_pki_import_privkey_file(a[4], NULL, NULL, NULL, &key) != SSH_OK)
        fail("key");
    if (strcmp(a[5], "-") != 0 && (ssh_pki_import_cert_file(a[5], &certificate) != SSH_OK ||
                                   ssh_pki_copy_cert_to_privkey(certificate, key) != SSH_OK))
        fail("certificate");
    if (ssh_userauth_publickey(session, NULL, key) != SSH_AUTH_SUCCESS)
        fail("login");
}

int main(int count, char **a) {
    int code = FAILED;
    if (count < 10)
        return FAILED;
    connect_to(a);
    if (strcmp(a[8], "exec") == 0 || strcmp(a[8], "terminal") == 0)
        code = run(a[9], strcmp(a[8], "terminal") == 0);
    else if (strcmp(a[8], "many") == 0)
        code = many(atoi(a[9]), a[10]);
    else if (strcmp(a[8], "forward") == 0)
        code = forward(a[9], atoi(a[10]));
    else if (strcmp(a[8], "put") == 0 || strcmp(a[8], "get") == 0)
        code = copy(strcmp(a[8], "put") == 0, a[9], a[10]);
    ssh_disconnect(session);
    ssh_free(session);
    return code;
}
