if [ -r /etc/profile ]; then . /etc/profile; fi
if [ -r ~/.bash_profile ]; then . ~/.bash_profile
elif [ -r ~/.bash_login ]; then . ~/.bash_login
elif [ -r ~/.profile ]; then . ~/.profile
fi
if [ -z "$(trap -p EXIT)" ] && [ -r ~/.bash_logout ]; then trap '. ~/.bash_logout' EXIT; fi
if ((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] >= 404)); then
__portcullis_escape() {
local LC_ALL=C s=${1//\\/\\\\} c r=
s=${s//;/\\x3b}
if [[ $s == *[[:cntrl:]]* ]]; then
while [[ -n $s ]]; do
c=${s:0:1} s=${s:1}
[[ $c == [[:cntrl:]] ]] && printf -v c '\\x%02x' "'$c"
r+=$c
done
s=$r
fi
__portcullis_said=$s
}
__portcullis_last() {
local LC_ALL=C line
line=$(HISTTIMEFORMAT= builtin history 1)
line=${line#"${line%%[![:blank:]]*}"}
__portcullis_number=${line%%[!0-9]*}
line=${line#"$__portcullis_number"}
__portcullis_line=${line#[ *] }
}
__portcullis_begin() {
local __portcullis_said __portcullis_line __portcullis_before=$__portcullis_number __portcullis_number
__portcullis_last
__portcullis_escape "$__portcullis_line"
if [[ $__portcullis_number == "$__portcullis_before" ]]; then __portcullis_said+=';same'; fi
printf '\e]633;E;%s;%s\a' "$__portcullis_said" "$__portcullis_n"
}
__portcullis_end() {
local __portcullis_status=$? __portcullis_said __portcullis_line
__portcullis_last
__portcullis_escape "$PWD"
printf '\e]633;P;Cwd=%s;%s\a\e]633;D;%s;%s\a' "$__portcullis_said" "$__portcullis_n" "$__portcullis_status" "$__portcullis_n"
return "$__portcullis_status"
}
printf '\e]633;P;Shell=bash;%s\a' "$__portcullis_n"
PROMPT_COMMAND=("__portcullis_end" "${PROMPT_COMMAND[@]}")
if ((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] < 501)); then PROMPT_COMMAND="__portcullis_end${PROMPT_COMMAND[1]:+; ${PROMPT_COMMAND[1]}}"; fi
PS0='$(__portcullis_begin)'$PS0
fi
