#include "polyveil/server.h"

#include <utility>

#include "backend/backends.h"
#include "polyveil/version.h"
#include "serve/server/accounts.h"
#include "serve/server/http_server.h"
#include "serve/server/model_service.h"
#include "serve/server/served_model.h"

namespace polyveil {

struct Server::Impl {
  Impl(const serve::ServedModel& served, const serve::ServiceLimits& limits,
       std::shared_ptr<serve::Accounts> accounts)
      : name(served.info.name), service(served, limits, std::move(accounts)) {}

  const std::string name;
  const char* scheme = "http://";
  serve::ModelService service;
  std::unique_ptr<serve::HttpServer> http;  // last: its connections end before what they use
};

namespace {

Result<serve::HttpOptions> HttpOf(const ServerOptions& options) {
  serve::HttpOptions http;
  http.address = options.address;
  http.port = options.port;
  http.allowed_hosts = options.allowed_hosts;
  http.plain_http = options.plain_http;
  if (!options.certificate.empty() || !options.key.empty() || !options.authorities.empty()) {
    PV_ASSIGN_OR_RETURN(
        http.tls, serve::MakeServerTls({options.certificate, options.key, options.authorities}));
  }
  return http;
}

}  // namespace

Result<Server> Server::Start(const ServerOptions& options) {
  PV_RETURN_IF_ERROR(backend::CheckVariable());
  serve::ServiceLimits limits;
  limits.key_memory_bytes = static_cast<u64>(options.key_gigabytes * 1e9);
  limits.sessions = options.sessions;
  serve::ServeOptions serve_options;
  serve_options.context = options.context;
  serve_options.programs.prompts = options.prompts_at_once;
  PV_ASSIGN_OR_RETURN(const serve::ServedModel served,
                      serve::LoadServedModel(options.model, options.parameters,
                                             POLYVEIL_VERSION_STRING, limits, serve_options));
  PV_RETURN_IF_ERROR(serve::CheckMemory(served.info));
  std::shared_ptr<serve::Accounts> accounts;
  if (!options.accounts.empty()) {
    PV_ASSIGN_OR_RETURN(accounts, serve::Accounts::Load(options.accounts));
  }
  PV_ASSIGN_OR_RETURN(const serve::HttpOptions http, HttpOf(options));
  auto impl = std::make_shared<Impl>(served, limits, std::move(accounts));
  if (http.tls) impl->scheme = "https://";
  PV_ASSIGN_OR_RETURN(impl->http, serve::HttpServer::Start(http, impl->service));
  return Server(std::move(impl));
}

int Server::port() const { return impl_->http->port(); }
std::string Server::url() const { return impl_->scheme + impl_->http->authority(); }
std::string Server::model() const { return impl_->name; }
void Server::Stop() { impl_->http->Stop(); }

}  // namespace polyveil
