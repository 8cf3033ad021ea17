/// @file
/// A server inside of a program: what polyveil-server does.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "polyveil/export.h"
#include "polyveil/result.h"

namespace polyveil {

/// What is served, and where.
struct ServerOptions {
  /// Folder of a bundle or a converted model, or a *.gguf with forms.json beside it.
  std::string model;
  std::string parameters;                  ///< Set by name; empty: the usual one.
  std::string address = "127.0.0.1";       ///< To listen on.
  int port = 0;                            ///< 0: any free one.
  std::vector<std::string> allowed_hosts;  ///< Names that clients know it by, beside its address.
  std::string certificate;       ///< PEM file, for https; empty: http, on a loopback address only.
  std::string key;               ///< PEM file of its key.
  std::string authorities;       ///< PEM file: clients must show a certificate of one of these.
  std::string accounts;          ///< File of accounts whose tokens are let in; empty: everybody is.
  bool plain_http = false;       ///< Listen elsewhere than on loopback without TLS.
  bool prompts_at_once = false;  ///< Read prompts of many tokens at once, with more keys.
  int context = 0;               ///< Tokens of a text; 0: the model's.
  double key_gigabytes = 0;      ///< Of all clients' keys; 0: by the machine's memory.
  std::size_t sessions = 32;     ///< Texts at the same time.
};

/// Serves until it is destroyed. Its threads are the process' own; it holds no secret.
class POLYVEIL_API Server {
 public:
  /// Loads, compiles, listens. Errors: those of the model's files, kResource (memory that one
  /// client would need: both), kInvalidArgument, kIo (address and port).
  static Result<Server> Start(const ServerOptions& options);

  int port() const;           ///< That it listens on.
  std::string url() const;    ///< "http://127.0.0.1:8117"
  std::string model() const;  ///< Name of what it serves.
  /// Answers nothing new, waits for what runs. Also done by the last copy's end.
  void Stop();

 private:
  struct Impl;
  explicit Server(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
  std::shared_ptr<Impl> impl_;
};

}  // namespace polyveil
