function __portcullis_escape
set -l s (string sub -l 16384 -- $argv[1] | string collect)
set s (string replace -a -- \\ \\\\ $s | string collect)
set s (string replace -a -- \; '\x3b' $s | string collect)
for n in (seq 1 31) 127
set -l hex (printf %02x $n)
set s (string replace -a -- (printf \\x$hex | string collect -N) '\x'$hex $s | string collect)
end
printf %s $s
end
function __portcullis_begin --on-event fish_preexec
printf '\e]633;E;%s;%s\a' (__portcullis_escape "$argv[1]" | string collect) $__portcullis_n
end
function __portcullis_end --on-event fish_postexec
set -l was $status
printf '\e]633;P;Cwd=%s;%s\a\e]633;D;%s;%s\a' (__portcullis_escape "$PWD" | string collect) $__portcullis_n $was $__portcullis_n
end
printf '\e]633;P;Shell=fish;%s\a' $__portcullis_n
