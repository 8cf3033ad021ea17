#include "base/command_line.h"

#include <fcntl.h>
#include <unistd.h>

#include <charconv>
#include <cmath>
#include <cstdio>
#include <limits>
#include <memory>

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

// Everything printed must have arrived; a program whose output is lost has failed.
int Finish(const Program& program, int status) {
  const bool failed = std::fflush(stdout) != 0 || std::ferror(stdout) != 0;
  const bool unclosed = std::fclose(stdout) != 0;  // some file systems tell only now
  if (!failed && !unclosed) return status;
  Tell(program, MakeError(ErrorCode::kIo, "standard output: not all of it could be written"));
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

}  // namespace

Command AddVerbs(CLI::App& app, std::initializer_list<Verb> verbs) {
  app.require_subcommand(1);
  struct Entry {
    CLI::App* app;
    Command command;
  };
  auto entries = std::make_shared<std::vector<Entry>>();
  for (const Verb& verb : verbs) {
    CLI::App* sub = app.add_subcommand(verb.name, verb.what);
    entries->push_back({sub, verb.describe(*sub)});
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

CLI::Option* AddThreads(CLI::App& app, size_t& threads, const std::string& of) {
  return AddNumber(app, "--threads", threads, {0, kMaxThreads},
                   of.empty() ? "threads, 0 for all" : "threads of " + of + ", 0 for all");
}

CLI::Option* AddSeed(CLI::App& app, std::uint64_t& seed, const std::string& what) {
  return AddNumber(app, "--seed", seed, {0, std::numeric_limits<std::uint64_t>::max()}, what);
}

CLI::Option* AddOutputFile(CLI::App& app, const std::string& names, std::string& path,
                           const std::string& what) {
  return app.add_option(names, path, what)->check([](const std::string& text) {
    const Status status =
        text.empty() ? MakeError(ErrorCode::kIo, "the file's name is empty") : CheckWritable(text);
    if (!status.ok()) throw CLI::FileError(status.error().message, 1);
    return std::string();
  });
}

int Fail(const Program& program, const Error& error) {
  Tell(program, error);
  if (error.code == ErrorCode::kUntrustedResult) return kUntrustedStatus;
  return error.code == ErrorCode::kCancelled ? InterruptStatus() : 1;
}

int RunProgram(const Program& program, int argc, char** argv, Command (*describe)(CLI::App&)) {
  OpenStandardStreams();
  InstallSignalHandlers();
  CLI::App app(program.what, program.name);
  app.set_version_flag("--version", program.version);
  const Command command = describe(app);
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
