// What the command lines of all programs share: verbs, numbers that are checked, the body of
// main().
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <string>
#include <type_traits>
#include <vector>

#include "base/result.h"

namespace polyveil {

using Command = std::function<Status()>;

struct Verb {
  const char* name;
  const char* what;
  // Adds the verb's options and returns what to run once they are parsed.
  Command (*describe)(CLI::App&);
};

// Exactly one of the verbs must be given; runs that one.
Command AddVerbs(CLI::App& app, std::initializer_list<Verb> verbs);

template <typename T>
struct NumberRange {
  T lo, hi;  // both allowed
};

// The text must be a decimal number of the range as a whole: no blanks, signs of counts, NaN,
// infinities, overflow, letters behind it. Returns the reason otherwise, empty for a good one,
// which is then rewritten so that CLI11 reads the same number (it takes 010 for 8).
std::string CheckNumber(std::string& text, NumberRange<std::int64_t> range);
std::string CheckNumber(std::string& text, NumberRange<std::uint64_t> range);
std::string CheckNumber(std::string& text, NumberRange<double> range);

namespace internal {

template <typename T>
using Widest =
    std::conditional_t<std::is_floating_point_v<T>, double,
                       std::conditional_t<std::is_signed_v<T>, std::int64_t, std::uint64_t>>;
template <typename T>
struct Element {
  using type = T;
};
template <typename T>
struct Element<std::vector<T>> {
  using type = T;
};

}  // namespace internal

// An option of one number, or of several where `value` is a vector: the way to add any of them.
template <typename T, typename E = typename internal::Element<T>::type>
CLI::Option* AddNumber(CLI::App& app, const std::string& names, T& value,
                       NumberRange<std::type_identity_t<E>> range, const std::string& what) {
  using Wide = internal::Widest<E>;
  const NumberRange<Wide> wide{static_cast<Wide>(range.lo), static_cast<Wide>(range.hi)};
  CLI::Option* option = app.add_option(names, value, what)->capture_default_str();
  return option->transform(
      CLI::Validator([wide](std::string& text) { return CheckNumber(text, wide); }, ""));
}

inline constexpr size_t kMaxThreads = 1024;
// --threads: 0 for all, whatever they are used for.
CLI::Option* AddThreads(CLI::App& app, size_t& threads, const std::string& of = "");
// --seed, of anything that is drawn.
CLI::Option* AddSeed(CLI::App& app, std::uint64_t& seed, const std::string& what);
// --json or another file that is written at the end of the work; tried when the command begins.
CLI::Option* AddOutputFile(CLI::App& app, const std::string& names, std::string& path,
                           const std::string& what);

struct Program {
  const char* name;
  const char* what;
  const char* version;
};

inline constexpr int kUntrustedStatus = 5;
// Tells the error on stderr; returns the exit status: 128 + signal for kCancelled, 5 for
// kUntrustedResult, else 1.
int Fail(const Program& program, const Error& error);

// The body of main(): handles signals, parses, runs, and makes sure that what was printed has
// arrived. Returns 0; Fail's status for an error, told on stderr; 128 + signal when interrupted; above 100, by
// CLI11, for a wrong command line.
int RunProgram(const Program& program, int argc, char** argv, Command (*describe)(CLI::App&));

}  // namespace polyveil
