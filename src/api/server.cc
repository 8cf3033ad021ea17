#include "polyveil/server.h"

#include <utility>

#include "backend/backends.h"
#include "polyveil/version.h"
#include "serve/server/http_server.h"
#include "serve/server/model_service.h"
#include "serve/server/served_model.h"

namespace polyveil {

struct Server::Impl {
  Impl(const serve::ServedModel& served, const serve::ServiceLimits& limits)
      : name(served.info.name), service(served, limits) {}

  const std::string name;
  serve::ModelService service;
  std::unique_ptr<serve::HttpServer> http;  // last: its connections end before what they use
};

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
  auto impl = std::make_shared<Impl>(served, limits);
  serve::HttpOptions http;
  http.address = options.address;
  http.port = options.port;
  http.allowed_hosts = options.allowed_hosts;
  PV_ASSIGN_OR_RETURN(impl->http, serve::HttpServer::Start(http, impl->service));
  return Server(std::move(impl));
}

int Server::port() const { return impl_->http->port(); }
std::string Server::url() const { return "http://" + impl_->http->authority(); }
std::string Server::model() const { return impl_->name; }
void Server::Stop() { impl_->http->Stop(); }

}  // namespace polyveil
