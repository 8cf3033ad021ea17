#include "polyveil/child_server.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <sstream>
#include <thread>
#include <vector>

#include "base/system.h"

extern char** environ;

namespace polyveil::tools {
namespace {

constexpr double kStartSeconds = 120;
constexpr double kStopSeconds = 20;
constexpr int kReadyFd = 3;

bool IsProgram(const std::filesystem::path& path) { return access(path.c_str(), X_OK) == 0; }

// The child leads its own process group, so that Ctrl-C reaches us alone and we end it in order.
Result<pid_t> Spawn(const std::string& program, const std::vector<std::string>& arguments,
                    int ready_fd) {
  std::vector<char*> argv{const_cast<char*>(program.c_str())};
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, ready_fd, kReadyFd);
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, STDERR_FILENO, STDOUT_FILENO);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);
  posix_spawnattr_setpgroup(&attributes, 0);
  pid_t pid = -1;
  const int error = posix_spawn(&pid, program.c_str(), &actions, &attributes, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  if (error == 0) return pid;
  return MakeError(ErrorCode::kUnavailable, "{}: cannot start: {}", program, std::strerror(error));
}

std::vector<std::string> ArgumentsOf(const ChildServerOptions& options) {
  std::vector<std::string> arguments = {"--model",         options.model,
                                        "--port",          "0",
                                        "--threads",       std::to_string(options.threads),
                                        "--ready-fd",      std::to_string(kReadyFd),
                                        "--parent",        std::to_string(getpid()),
                                        "--log-level",     "warning",
                                        "--keys",          options.keys,
                                        "--largest-error", fmt::format("{}", options.largest_error),
                                        "--context",       std::to_string(options.context),
                                        "--texts",         std::to_string(options.texts)};
  if (!options.parameters.empty()) {
    arguments.push_back("--parameters");
    arguments.push_back(options.parameters);
  }
  if (options.at_once) arguments.push_back("--at-once");
  if (options.head) arguments.push_back("--head");
  return arguments;
}

std::string DescribeEnd(int status) {
  if (WIFSIGNALED(status)) return fmt::format("killed by signal {}", WTERMSIG(status));
  return fmt::format("ended with status {}", WEXITSTATUS(status));
}

}  // namespace

Result<std::string> FindProgram(const std::string& name) {
  namespace fs = std::filesystem;
  std::error_code error;
  const fs::path folder = fs::read_symlink("/proc/self/exe", error).parent_path();
  std::vector<fs::path> places = {folder, folder / "../src/train",
                                  folder / "../../build-test/src/train"};
  for (fs::path& place : places) place = place.lexically_normal();
  const char* search = std::getenv("PATH");
  std::istringstream paths(search ? search : "");
  for (std::string path; std::getline(paths, path, ':');)
    if (!path.empty()) places.emplace_back(path);
  for (const fs::path& place : places)
    if (IsProgram(place / name)) return (place / name).string();
  return MakeError(ErrorCode::kNotFound, "program {} is neither in {}, {}, {} nor in the PATH",
                   name, places[0].string(), places[1].string(), places[2].string());
}

Result<std::unique_ptr<ChildServer>> ChildServer::Start(const ChildServerOptions& options,
                                                        const std::atomic<bool>& cancel) {
  PV_ASSIGN_OR_RETURN(const std::string program, FindProgram("polyveil-server"));
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) {
    return MakeError(ErrorCode::kIo, "pipe: {}", std::strerror(errno));
  }
  // Room for dup2 onto kReadyFd, which must not be the pipe itself (it would stay close-on-exec).
  const int ready = fcntl(ends[1], F_DUPFD_CLOEXEC, kReadyFd + 1);
  close(ends[1]);
  std::unique_ptr<ChildServer> child(new ChildServer);
  const auto pid = Spawn(program, ArgumentsOf(options), ready);
  close(ready);
  Status status;
  if (pid.ok()) {
    child->pid_ = *pid;
    status = child->WaitReady(ends[0], cancel);
  } else {
    status = pid.error();
  }
  close(ends[0]);
  if (!status.ok()) return status.error();
  return child;
}

Status ChildServer::WaitReady(int fd, const std::atomic<bool>& cancel) {
  Timer timer;
  std::string line;
  while (!line.ends_with('\n')) {
    if (cancel) return MakeError(ErrorCode::kCancelled, "cancelled while the server starts");
    if (timer.Seconds() > kStartSeconds) {
      return MakeError(ErrorCode::kUnavailable, "polyveil-server is not ready after {} s",
                       kStartSeconds);
    }
    pollfd wait{fd, POLLIN, 0};
    if (poll(&wait, 1, 100) <= 0) continue;
    char piece[32];
    const ssize_t got = read(fd, piece, sizeof piece);
    if (got > 0) line.append(piece, static_cast<size_t>(got));
    if (got == 0) {
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
      return MakeError(ErrorCode::kUnavailable, "polyveil-server {} before it was ready",
                       HowItEnded().empty() ? "closed its pipe" : ended_);
    }
  }
  line.pop_back();
  PV_ASSIGN_OR_RETURN(url_, serve::ParseUrl("http://127.0.0.1:" + line));
  return {};
}

std::string ChildServer::HowItEnded() {
  int status = 0;
  if (pid_ > 0 && waitpid(pid_, &status, WNOHANG) == pid_) {
    ended_ = DescribeEnd(status);
    pid_ = -1;
  }
  return ended_;
}

ChildServer::~ChildServer() {
  if (pid_ > 0) kill(pid_, SIGTERM);
  Timer timer;
  while (pid_ > 0 && HowItEnded().empty()) {
    if (timer.Seconds() > kStopSeconds) kill(pid_, SIGKILL);
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
}

}  // namespace polyveil::tools
