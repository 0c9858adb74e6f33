s=${SHELL:-/bin/sh}
printf "\033]633;P;Launch;%s\007" "$n"
[ -e "$HOME/.hushlogin" ] || cat /run/motd.dynamic /etc/motd 2>/dev/null
case "${s##*/}" in
bash)
exec "$s" --rcfile /dev/fd/9 -i 9<<EOF
exec 9<&-
__portcullis_n=$n
$(printf %b "$bash")
EOF
;;
zsh)
if d=$(mktemp -d) && [ -n "$d" ]; then
{
printf 'command rm -rf -- %s\n' "$d"
if [ -n "${ZDOTDIR+set}" ]; then printf "ZDOTDIR='%s'\n" "$(printf %s "$ZDOTDIR" | sed "s/'/'\\\\''/g")"
else echo 'unset ZDOTDIR'
fi
printf '__portcullis_n=%s\n' "$n"
printf %b "$zsh"
} > "$d/.zshenv" && ZDOTDIR=$d exec "$s" -l -i
fi
;;
fish)
exec "$s" -l -C 'cat /dev/fd/9 | source' 9<<EOF
set -g __portcullis_n $n
$(printf %b "$fish")
EOF
;;
esac
exec "$s" -l
