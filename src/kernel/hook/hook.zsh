__portcullis_env=${ZDOTDIR:-$HOME}/.zshenv
if [[ -r $__portcullis_env ]]; then . $__portcullis_env; fi
unset __portcullis_env
if [[ -o interactive ]]; then
__portcullis_escape() {
emulate -L zsh
unsetopt multibyte
local c r=
for c in ${(s::)1}; do
case $c in
(\\) r+='\\' ;;
(\;) r+='\x3b' ;;
([[:cntrl:]]) printf -v c '\\x%02x' "'$c"; r+=$c ;;
(*) r+=$c ;;
esac
done
__portcullis_said=$r
}
__portcullis_begin() {
local __portcullis_said
__portcullis_escape "${1:-$3}"
print -rn -- $'\e]633;E;'"$__portcullis_said;$__portcullis_n"$'\a'
}
__portcullis_end() {
local __portcullis_status=$? __portcullis_said
__portcullis_escape "$PWD"
print -rn -- $'\e]633;P;Cwd='"$__portcullis_said;$__portcullis_n"$'\a\e]633;D;'"$__portcullis_status;$__portcullis_n"$'\a'
return $__portcullis_status
}
typeset -ga preexec_functions precmd_functions
preexec_functions=(__portcullis_begin $preexec_functions)
precmd_functions=(__portcullis_end $precmd_functions)
print -rn -- $'\e]633;P;Shell=zsh;'"$__portcullis_n"$'\a'
fi
