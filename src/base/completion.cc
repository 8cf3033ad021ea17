#include "base/completion.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <vector>

namespace polyveil {
namespace {

// What "$path" and "$previous" stand for, as lines of a case.
struct CompletionTables {
  std::string verbs, options, values;
};

std::vector<std::string> NamesOf(const CLI::Option& option) {
  std::vector<std::string> names;
  for (const std::string& name : option.get_snames()) names.push_back("-" + name);
  for (const std::string& name : option.get_lnames()) names.push_back("--" + name);
  return names;
}

// "TEXT:{auto,expanded}" has choices, "TEXT" may be a file, a number is neither.
std::string ValueAction(const CLI::Option& option) {
  const std::string type = option.get_type_name();
  const size_t open = type.find('{'), close = type.rfind('}');
  if (open != std::string::npos && close != std::string::npos && open < close) {
    std::string words = type.substr(open + 1, close - open - 1);
    std::replace(words.begin(), words.end(), ',', ' ');
    return fmt::format("words=\"{}\"", words);
  }
  return type.starts_with("TEXT") ? "files=1" : ":";
}

void AddToTables(const CLI::App& app, const std::string& path, CompletionTables& tables) {
  std::string verbs, options;
  for (const CLI::App* verb : app.get_subcommands([](const CLI::App*) { return true; })) {
    verbs += " " + verb->get_name();
    AddToTables(*verb, path.empty() ? verb->get_name() : path + " " + verb->get_name(), tables);
  }
  for (const CLI::Option* option : app.get_options()) {
    std::string pattern;
    for (const std::string& name : NamesOf(*option)) {
      options += " " + name;
      pattern += fmt::format("{}\"{} {}\"", pattern.empty() ? "" : " | ", path, name);
    }
    if (pattern.empty() || option->get_items_expected_max() == 0) continue;
    tables.values += fmt::format("    {}) {} ;;\n", pattern, ValueAction(*option));
  }
  tables.verbs +=
      fmt::format("    \"{}\") verbs=\"{}\" ;;\n", path, verbs.empty() ? "" : verbs.substr(1));
  tables.options +=
      fmt::format("    \"{}\") words=\"{}\" ;;\n", path, options.empty() ? "" : options.substr(1));
}

// {0}: the program; {1}: the function; {2}, {3}, {4}: lines of the tables.
constexpr const char* kBashScript =
    R"(# Completion of {0} for bash, written by `{0} --completion bash`.
{1}_verbs() {{
  case "$1" in
{2}    *) verbs= ;;
  esac
}}
{1}() {{
  local current=${{COMP_WORDS[COMP_CWORD]}} previous=${{COMP_WORDS[COMP_CWORD - 1]}}
  local path= word verbs words= files=
  if [ "$current" = "=" ]; then
    current=
  elif [ "$previous" = "=" ] && [ "$COMP_CWORD" -ge 2 ]; then
    previous=${{COMP_WORDS[COMP_CWORD - 2]}}
  fi
  for word in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
    {1}_verbs "$path"
    case " $verbs " in *" $word "*) path+="${{path:+ }}$word" ;; esac
  done
  COMPREPLY=()
  case "$path $previous" in
{4}    *)
      case "$path" in
{3}      esac
      {1}_verbs "$path"
      words="$verbs $words"
      case "$current" in -*) ;; *) [ -n "$verbs" ] || files=1 ;; esac
      ;;
  esac
  mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
  if [ -n "$files" ] && {{ [ "${{#COMPREPLY[@]}}" -eq 0 ] || [ -n "$current" ]; }}; then
    mapfile -t -O "${{#COMPREPLY[@]}}" COMPREPLY < <(compgen -f -- "$current")
    compopt -o filenames 2>/dev/null || true
  fi
  return 0
}}
complete -F {1} {0}
)";

}  // namespace

std::string BashCompletion(const CLI::App& app) {
  CompletionTables tables;
  AddToTables(app, "", tables);
  std::string function = "_" + app.get_name();
  std::replace(function.begin(), function.end(), '-', '_');
  return fmt::format(fmt::runtime(kBashScript), app.get_name(), function, tables.verbs,
                     tables.options, tables.values);
}

}  // namespace polyveil
