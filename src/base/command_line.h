// What the command lines of all programs share: verbs, numbers that are checked, the body of
// main().
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <initializer_list>
#include <optional>
#include <string>
#include <type_traits>
#include <vector>

#include "base/result.h"

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace polyveil {

// One option of a verb, while it is described. CLI11 does the work; its header, of which every file
// that reads it compiles four seconds' worth of functions, is read by command_line.cc and
// completion.cc alone.
class Option {
 public:
  explicit Option(CLI::Option* option) : option_(option) {}
  Option* required();
  Option* capture_default_str();  // the page of help shows the value that stands
  Option* one_of(const std::vector<std::string>& words);
  Option* delimiter(char between);
  Option* one_value();  // of a list: each word of it takes the option's name anew
  Option* excludes(const Option* other);
  Option* needs(const Option* other);

 private:
  CLI::Option* option_;
};

// The options of a verb. Names are those of CLI11: "--long", "-l,--long", "word" for one by its
// place.
class Options {
 public:
  explicit Options(CLI::App& app) : app_(app) {}
  Options(const Options&) = delete;

  Option* add_option(const std::string& names, std::string& value, const std::string& what);
  Option* add_option(const std::string& names, std::optional<std::string>& value,
                     const std::string& what);
  Option* add_option(const std::string& names, std::vector<std::string>& values,
                     const std::string& what);
  Option* add_flag(const std::string& names, bool& value, const std::string& what);
  void description(const std::string& text);  // of the verb's page
  void prefix_command();                      // takes every word behind the verb
  CLI::App& app() { return app_; }
  Option* Keep(CLI::Option* option);

 private:
  CLI::App& app_;
  std::deque<Option> options_;
};

using Command = std::function<Status()>;

struct Verb {
  const char* name;
  const char* what;
  // Adds the verb's options and returns what to run once they are parsed.
  Command (*describe)(Options&);
};

// Exactly one of the verbs must be given; runs that one.
Command AddVerbs(Options& app, std::initializer_list<Verb> verbs);

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
struct Element {
  using type = T;
};
template <typename T>
struct Element<std::vector<T>> {
  using type = T;
};

}  // namespace internal

// An option of one number, or of several where `value` is a vector: the way to add any of them.
// Instantiated in command_line.cc for the types in use.
template <typename T, typename E = typename internal::Element<T>::type>
Option* AddNumber(Options& app, const std::string& names, T& value,
                  NumberRange<std::type_identity_t<E>> range, const std::string& what);

inline constexpr size_t kMaxThreads = 1024;
// --threads: 0 for all, whatever they are used for.
Option* AddThreads(Options& app, size_t& threads, const std::string& of = "");
// --seed, of anything that is drawn.
Option* AddSeed(Options& app, std::uint64_t& seed, const std::string& what);
// --json or another file that is written at the end of the work; tried when the command begins.
Option* AddOutputFile(Options& app, const std::string& names, std::string& path,
                      const std::string& what);

// --ready-fd: for whoever started this process with port 0.
Option* AddReadyFd(Options& app, int& fd);
// Writes the port there and closes it; nothing where fd < 0. Who waits for the port and does not
// get it would wait for ever. Errors: kIo.
Status TellReady(int fd, int port);

struct Program {
  const char* name;
  const char* what;
  const char* version;
  // Before the names of its options in the environment; then --config FILE reads them too. Null:
  // flags alone.
  const char* variables = nullptr;
};

// Whether what was printed has arrived, on the disk where it is a file's: before anything that the
// output alone keeps is given up. Errors: kIo.
Status FlushOutput();

inline constexpr int kUntrustedStatus = 5;
// Tells the error on stderr; returns the exit status: 128 + signal for kCancelled, 5 for
// kUntrustedResult, else 1.
int Fail(const Program& program, const Error& error);

// The body of main(): handles signals, parses, runs, and makes sure that what was printed has
// arrived. Returns 0; Fail's status for an error, told on stderr; 128 + signal when interrupted;
// above 100, by CLI11, for a wrong command line. `PROGRAM --completion bash` prints the shell's
// script (base/completion.h), which packages install.
int RunProgram(const Program& program, int argc, char** argv, Command (*describe)(Options&));

}  // namespace polyveil
