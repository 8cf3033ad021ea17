// The options of polyveil-server: flags, a configuration file and the environment.
#pragma once

#include <string>

#include "base/command_line.h"
#include "serve/server/http_server.h"
#include "serve/server/served_model.h"

namespace polyveil {

struct ServerArguments {
  std::string model;
  std::string parameters;  // empty: runtime::DefaultParameters
  serve::ServeOptions decoder;
  serve::HttpOptions http;
  serve::TlsFiles tls;
  std::string accounts, new_account, state;
  double drain_seconds = 30;
  serve::ServiceLimits limits;
  size_t threads = 0;
  double key_gigabytes = 0;
  int public_megabytes = 256;
  double weight_gigabytes = -1;
  double largest_error = model::kLargestLogitError;
  std::string keys = "auto";
  int ready_fd = -1;  // the port is written there once the server answers
  int parent = 0;     // end with this process
  std::string log_level = "info";
  bool check_config = false;
};

void DescribeServerOptions(Options& app, ServerArguments& arguments);

}  // namespace polyveil
