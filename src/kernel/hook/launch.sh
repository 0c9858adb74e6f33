__portcullis_s=${SHELL:-/bin/sh}
printf "\033]633;P;Launch;%s\007" "$__portcullis_n"
[ -e "$HOME/.hushlogin" ] || cat /run/motd.dynamic /etc/motd 2>/dev/null
case "${__portcullis_s##*/}" in
bash)
if [ -z "${POSIXLY_CORRECT+set}" ] && [ -r /dev/fd/9 ] 9</dev/null; then
exec "$__portcullis_s" --rcfile /dev/fd/9 -i 9<<EOF
exec 9<&-
__portcullis_n=$__portcullis_n
$(printf %b "$__portcullis_bash")
EOF
fi
;;
zsh)
if ! grep -qs '^[^#]*ZDOTDIR' /etc/zshenv /etc/zsh/zshenv && __portcullis_d=$(TMPDIR=/tmp mktemp -d); then
{
printf 'command rm -f %s/.zshenv\ncommand rmdir %s\n' "$__portcullis_d" "$__portcullis_d"
if [ -n "${ZDOTDIR+set}" ]; then printf "ZDOTDIR='%s'\n" "$(printf %s "$ZDOTDIR" | sed "s/'/'\\\\''/g")"
else echo 'unset ZDOTDIR'
fi
printf '__portcullis_n=%s\n' "$__portcullis_n"
printf %b "$__portcullis_zsh"
} > "$__portcullis_d/.zshenv" && ZDOTDIR=$__portcullis_d exec "$__portcullis_s" -l -i
fi
;;
fish)
if [ -r /dev/fd/9 ] 9</dev/null; then
exec "$__portcullis_s" -l -C 'cat /dev/fd/9 | source' 9<<EOF
set -g __portcullis_n $__portcullis_n
$(printf %b "$__portcullis_fish")
EOF
fi
;;
esac
exec "$__portcullis_s" -l
