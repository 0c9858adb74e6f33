__portcullis_env=${ZDOTDIR:-$HOME}/.zshenv
if [[ -r $__portcullis_env ]]; then . $__portcullis_env; fi
unset __portcullis_env
if [[ -o interactive ]]; then
__portcullis_escape() {
emulate -L zsh
setopt noxtrace nomultibyte
local s=$1 as= i c h
if (( ${#s} > 16384 )); then s=${s[1,16384]} as=';cut'; fi
s=${s//\\/\\\\}
s=${s//;/\\x3b}
if [[ $s == *[[:cntrl:]]* ]]; then
for i in {1..31} 127; do
printf -v h '\\x%02x' $i
printf -v c $h
s=${s//$c/$h}
done
fi
__portcullis_said=$s$as
}
__portcullis_begin() {
emulate -L zsh
setopt noxtrace
local __portcullis_said
__portcullis_escape "${1:-$3}"
print -rn -- $'\e]633;E;'"$__portcullis_said;$__portcullis_n"$'\a'
}
__portcullis_end() {
local __portcullis_status=$? __portcullis_said
emulate -L zsh
setopt noxtrace
__portcullis_escape "$PWD"
print -rn -- $'\e]633;P;Cwd='"$__portcullis_said;$__portcullis_n"$'\a\e]633;D;'"$__portcullis_status;$__portcullis_n"$'\a'
return $__portcullis_status
}
() {
emulate -L zsh
typeset -ga preexec_functions precmd_functions
preexec_functions=(__portcullis_begin $preexec_functions)
precmd_functions=(__portcullis_end $precmd_functions)
}
print -rn -- $'\e]633;P;Shell=zsh;'"$__portcullis_n"$'\a'
fi
