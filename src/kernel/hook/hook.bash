if [ -r /etc/profile ]; then . /etc/profile; fi
if [ -r ~/.bash_profile ]; then . ~/.bash_profile
elif [ -r ~/.bash_login ]; then . ~/.bash_login
elif [ -r ~/.profile ]; then . ~/.profile
fi
if [ -z "$(trap -p EXIT)" ] && [ -r ~/.bash_logout ]; then trap '. ~/.bash_logout' EXIT; fi
logout() { exit "$@"; }
__portcullis_fixed() {
local of
read -r _ of _ <<<"$(declare -p "$1" 2>/dev/null)"
[[ $of == *r* ]]
}
if ((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] >= 404)) && ! __portcullis_fixed PROMPT_COMMAND && ! __portcullis_fixed PS0; then
__portcullis_number=
__portcullis_escape() {
local s=$1 as= i c h
if ((${#s} > 16384)); then s=${s:0:16384} as=';cut'; fi
s=${s//\\/\\\\}
s=${s//;/\\x3b}
if [[ $s == *[[:cntrl:]]* ]]; then
for i in {1..31} 127; do
printf -v h '\\x%02x' "$i"
printf -v c "$h"
s=${s//"$c"/"$h"}
done
fi
__portcullis_said=$s$as
}
__portcullis_last() {
local line
line=$(HISTTIMEFORMAT= builtin history 1 2>/dev/null) 2>/dev/null || :
line=${line#"${line%%[![:blank:]]*}"}
__portcullis_number=${line%%[!0-9]*}
line=${line#"$__portcullis_number"}
__portcullis_line=${line#[ *] }
}
__portcullis_begin() {
{ local -; set +exuT; } 2>/dev/null
local __portcullis_said __portcullis_line __portcullis_before=$__portcullis_number __portcullis_number
__portcullis_last
__portcullis_escape "$__portcullis_line"
if [[ $__portcullis_number == "$__portcullis_before" ]]; then __portcullis_said+=';same'; fi
printf '\e]633;E;%s;%s\a' "$__portcullis_said" "$__portcullis_n"
}
__portcullis_end() {
local __portcullis_status=$? __portcullis_quits=$-
{ local -; set +exuT; } 2>/dev/null
local __portcullis_said __portcullis_line
__portcullis_last
__portcullis_escape "$PWD"
printf '\e]633;P;Cwd=%s;%s\a\e]633;D;%s;%s\a' "$__portcullis_said" "$__portcullis_n" "$__portcullis_status" "$__portcullis_n"
if [[ $__portcullis_quits == *e* ]]; then return 0; fi
return "$__portcullis_status"
}
printf '\e]633;P;Shell=bash;%s\a' "$__portcullis_n"
if ((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] < 501)); then
PROMPT_COMMAND="__portcullis_end${PROMPT_COMMAND:+; $PROMPT_COMMAND}"
else
PROMPT_COMMAND=(__portcullis_end "${PROMPT_COMMAND[@]}")
fi
PS0='$(__portcullis_begin)'${PS0-}
fi
