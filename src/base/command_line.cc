#include "base/command_line.h"

#include <fcntl.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cctype>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>
#include <memory>

#include "base/completion.h"
#include "base/interrupt.h"
#include "base/output_file.h"

namespace polyveil {
namespace {

template <typename T>
std::string CheckInteger(std::string& text, NumberRange<T> range) {
  T value{};
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || stop != end || value < range.lo || value > range.hi)
    return fmt::format("\"{}\" is no whole number from {} to {}", text, range.lo, range.hi);
  text = fmt::format("{}", value);
  return {};
}

// A descriptor that is closed would be taken by the next file that is opened, and what is printed
// would land in it. Opened in the wrong direction, so that its use is an error all the same.
void OpenStandardStreams() {
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
    if (fcntl(fd, F_GETFD) < 0) open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY);
}

void Tell(const Program& program, const Error& error) {
  std::fprintf(stderr, "%s: %s: %s\n", program.name, ErrorCodeName(error.code),
               error.message.c_str());
}

Error OutputIsLost() {
  return MakeError(ErrorCode::kIo, "standard output: not all of it could be written");
}

// Everything printed must have arrived; a program whose output is lost has failed.
int Finish(const Program& program, int status) {
  const bool flushed = FlushOutput().ok();
  const bool closed = std::fclose(stdout) == 0;  // some file systems tell only now
  if (flushed && closed) return status;
  Tell(program, OutputIsLost());
  return status == 0 ? 1 : status;
}

// What a library of others throws (no memory, no such file) is an error like any other.
Status RunGuarded(const Command& command) {
  try {
    return command();
  } catch (const std::bad_alloc&) {
    return MakeError(ErrorCode::kResource, "out of memory");
  } catch (const std::exception& error) {
    return MakeError(ErrorCode::kResource, "{}", error.what());
  }
}

template <typename T>
using Widest =
    std::conditional_t<std::is_floating_point_v<T>, double,
                       std::conditional_t<std::is_signed_v<T>, std::int64_t, std::uint64_t>>;
}  // namespace

Status FlushOutput() {
  if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) return OutputIsLost();
  // Pipes and terminals know no fsync.
  if (fsync(STDOUT_FILENO) == 0 || (errno != EIO && errno != ENOSPC && errno != EDQUOT)) return {};
  return OutputIsLost();
}

Option* Option::required() {
  option_->required();
  return this;
}

Option* Option::capture_default_str() {
  option_->capture_default_str();
  return this;
}

Option* Option::one_of(const std::vector<std::string>& words) {
  option_->check(CLI::IsMember(words));
  return this;
}

Option* Option::one_value() {
  option_->allow_extra_args(false);
  return this;
}

Option* Option::delimiter(char between) {
  option_->delimiter(between);
  return this;
}

Option* Option::excludes(const Option* other) {
  option_->excludes(other->option_);
  return this;
}

Option* Option::needs(const Option* other) {
  option_->needs(other->option_);
  return this;
}

Option* Options::Keep(CLI::Option* option) { return &options_.emplace_back(option); }

Option* Options::add_option(const std::string& names, std::string& value, const std::string& what) {
  return Keep(app_.add_option(names, value, what));
}

Option* Options::add_option(const std::string& names, std::optional<std::string>& value,
                            const std::string& what) {
  return Keep(app_.add_option(names, value, what));
}

Option* Options::add_option(const std::string& names, std::vector<std::string>& values,
                            const std::string& what) {
  return Keep(app_.add_option(names, values, what));
}

Option* Options::add_flag(const std::string& names, bool& value, const std::string& what) {
  return Keep(app_.add_flag(names, value, what));
}

void Options::description(const std::string& text) { app_.description(text); }

void Options::prefix_command() { app_.prefix_command(); }

Command AddVerbs(Options& options, std::initializer_list<Verb> verbs) {
  options.app().require_subcommand(1);
  struct Entry {
    CLI::App* app;
    Command command;
  };
  auto entries = std::make_shared<std::vector<Entry>>();
  for (const Verb& verb : verbs) {
    CLI::App* sub = options.app().add_subcommand(verb.name, verb.what);
    Options own(*sub);
    entries->push_back({sub, verb.describe(own)});
    if (sub->get_description() == verb.what) continue;
    sub->footer(sub->get_description());  // the list of verbs has a line of each
    sub->description(verb.what);
  }
  return [entries]() -> Status {
    for (const Entry& entry : *entries)
      if (entry.app->parsed()) return entry.command();
    return MakeError(ErrorCode::kInvalidArgument, "no command is given");
  };
}

std::string CheckNumber(std::string& text, NumberRange<std::int64_t> range) {
  return CheckInteger(text, range);
}

std::string CheckNumber(std::string& text, NumberRange<std::uint64_t> range) {
  return CheckInteger(text, range);
}

std::string CheckNumber(std::string& text, NumberRange<double> range) {
  double value = std::numeric_limits<double>::quiet_NaN();
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error == std::errc() && stop == end && value >= range.lo && value <= range.hi) return {};
  return fmt::format("\"{}\" is no number from {} to {}", text, range.lo, range.hi);
}

template <typename T, typename E>
Option* AddNumber(Options& app, const std::string& names, T& value,
                  NumberRange<std::type_identity_t<E>> range, const std::string& what) {
  using Wide = Widest<E>;
  const NumberRange<Wide> wide{static_cast<Wide>(range.lo), static_cast<Wide>(range.hi)};
  CLI::Option* option = app.app().add_option(names, value, what)->capture_default_str();
  return app.Keep(option->transform(
      CLI::Validator([wide](std::string& text) { return CheckNumber(text, wide); }, "")));
}

#define PV_ADD_NUMBER(T, E)                                                          \
  template Option* AddNumber<T, E>(Options&, const std::string&, T&, NumberRange<E>, \
                                   const std::string&)
PV_ADD_NUMBER(int, int);
PV_ADD_NUMBER(std::int64_t, std::int64_t);
PV_ADD_NUMBER(std::uint64_t, std::uint64_t);
PV_ADD_NUMBER(double, double);
PV_ADD_NUMBER(std::vector<int>, int);
PV_ADD_NUMBER(std::vector<double>, double);
#undef PV_ADD_NUMBER

Option* AddThreads(Options& app, size_t& threads, const std::string& of) {
  return AddNumber(app, "--threads", threads, {0, kMaxThreads},
                   of.empty() ? "threads, 0 for all" : "threads of " + of + ", 0 for all");
}

Option* AddSeed(Options& app, std::uint64_t& seed, const std::string& what) {
  return AddNumber(app, "--seed", seed, {0, std::numeric_limits<std::uint64_t>::max()}, what);
}

Option* AddReadyFd(Options& app, int& fd) {
  return AddNumber(app, "--ready-fd", fd, {-1, 1 << 20},
                   "write the port to this descriptor when ready; -1: to none");
}

Status TellReady(int fd, int port) {
  if (fd < 0) return {};
  const std::string line = std::to_string(port) + "\n";
  const bool told = write(fd, line.data(), line.size()) == static_cast<ssize_t>(line.size());
  const int reason = errno;
  if (fd > STDERR_FILENO) close(fd);
  if (told) return {};
  return MakeError(ErrorCode::kIo, "--ready-fd {}: cannot write the port: {}", fd,
                   std::strerror(reason));
}

Option* AddOutputFile(Options& app, const std::string& names, std::string& path,
                      const std::string& what) {
  CLI::Option* option = app.app().add_option(names, path, what);
  return app.Keep(option->check([](const std::string& text) {
    const Status status =
        text.empty() ? MakeError(ErrorCode::kIo, "the file's name is empty") : CheckWritable(text);
    if (!status.ok()) throw CLI::FileError(status.error().message, 1);
    return std::string();
  }));
}

int Fail(const Program& program, const Error& error) {
  Tell(program, error);
  if (error.code == ErrorCode::kUntrustedResult) return kUntrustedStatus;
  return error.code == ErrorCode::kCancelled ? InterruptStatus() : 1;
}

namespace {

// "--max-keys" is max-keys in a file, POLYVEIL_SERVER_MAX_KEYS in the environment. A flag wins over
// the file, that over the environment.
void AddSources(CLI::App& app, const std::string& prefix) {
  for (CLI::Option* option : app.get_options([](const CLI::Option* one) {
         return !one->get_lnames().empty() && one->get_lnames()[0] != "help" &&
                one->get_lnames()[0] != "version";
       })) {
    std::string name = prefix + option->get_lnames()[0];
    for (char& c : name) c = c == '-' ? '_' : static_cast<char>(std::toupper(c));
    option->envname(name);
  }
  app.set_config("--config", "", "file with lines of NAME = VALUE: options without their dashes");
  app.allow_config_extras(CLI::config_extras_mode::error);
}

}  // namespace

int RunProgram(const Program& program, int argc, char** argv, Command (*describe)(Options&)) {
  OpenStandardStreams();
  InstallSignalHandlers();
  CLI::App app(program.what, program.name);
  app.set_version_flag("--version", program.version);
  Options options(app);
  const Command command = describe(options);
  if (program.variables != nullptr) AddSources(app, program.variables);
  if (argc == 3 && std::string_view(argv[1]) == "--completion" &&
      std::string_view(argv[2]) == "bash") {
    std::fputs(BashCompletion(app).c_str(), stdout);
    return Finish(program, 0);
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::FileError& error) {
    return Finish(program, Fail(program, MakeError(ErrorCode::kIo, "{}", error.what())));
  } catch (const CLI::ParseError& error) {
    return Finish(program, app.exit(error));
  }
  const Status status = RunGuarded(command);
  return Finish(program, status.ok() ? 0 : Fail(program, status.error()));
}

}  // namespace polyveil
