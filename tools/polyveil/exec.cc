#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "polyveil/child_server.h"
#include "polyveil/commands.h"

namespace polyveil::tools {

Status ExecProgram(const char* program, int argc, char** argv) {
  PV_ASSIGN_OR_RETURN(const std::string path, FindProgram(program));
  std::vector<char*> arguments(argv, argv + argc);
  arguments[0] = const_cast<char*>(program);
  arguments.push_back(nullptr);
  // Ignored signals survive exec; handlers do not.
  signal(SIGPIPE, SIG_DFL);
  signal(SIGXFSZ, SIG_DFL);
  execv(path.c_str(), arguments.data());
  return MakeError(ErrorCode::kUnavailable, "{}: {}", path, std::strerror(errno));
}

}  // namespace polyveil::tools
