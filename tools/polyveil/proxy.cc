// polyveil proxy: the API that everybody has, on loopback; what leaves this machine is encrypted.
#include <cstdio>
#include <memory>

#include "base/buffer.h"
#include "base/secure_memory.h"
#include "base/thread_pool.h"
#include "polyveil/commands.h"
#include "polyveil/conversations.h"
#include "polyveil/embeddings.h"
#include "serve/client/proxy/proxy_service.h"

namespace polyveil::tools {
namespace {

struct ProxyArguments {
  SessionOptions session;
  ConversationOptions conversations;
  Pooling pooling;  // of an encoder
  serve::ProxyLimits limits;
  serve::HttpOptions http;
  int ready_fd = -1;
};

Status Serve(const ProxyArguments& arguments, serve::ProxyService& service,
             const std::string& model) {
  PV_ASSIGN_OR_RETURN(const auto server, serve::HttpServer::Start(arguments.http, service));
  std::fprintf(stderr, "OpenAI API: http://%s/v1, model '%s'; a page: http://%s/\n",
               server->authority().c_str(), model.c_str(), server->authority().c_str());
  PV_RETURN_IF_ERROR(TellReady(arguments.ready_fd, server->port()));
  WaitForInterrupt();
  server->Stop();
  return {};
}

// An encoder embeds texts, any other model writes them.
Status Serve(const ProxyArguments& arguments, ModelSession& session, const RunReport& report) {
  serve::Metrics metrics;
  if (session.half()->is_encoder()) {
    PV_ASSIGN_OR_RETURN(const auto embeddings,
                        Embeddings::Create(session, arguments.pooling, report, metrics));
    serve::ProxyService service(*embeddings, arguments.limits, metrics);
    return Serve(arguments, service, embeddings->model());
  }
  PV_ASSIGN_OR_RETURN(const auto conversations,
                      Conversations::Create(session, arguments.conversations, report, metrics));
  serve::ProxyService service(*conversations, arguments.limits, metrics);
  return Serve(arguments, service, conversations->model());
}

Status Run(const ProxyArguments& arguments) {
  ProtectProcess();
  SetThreads(arguments.session.threads);
  buffer_pool::SetCacheLimit(size_t{256} << 20);
  const OrderlyEnd end;
  RunReport report;
  PV_ASSIGN_OR_RETURN(const auto session, ModelSession::Open(arguments.session));
  PV_RETURN_IF_ERROR(session->Connect(report));
  const Status keys = session->SendKeys(report);
  if (!keys.ok()) return session->Explain(keys.error());
  return Serve(arguments, *session, report);
}

}  // namespace

Command DescribeProxy(Options& app) {
  auto a = std::make_shared<ProxyArguments>();
  a->http.port = 8080;
  app.description(
      "The OpenAI API on this machine, in front of a model that runs on encrypted text elsewhere.");
  AddNumber(app, "--port", a->http.port, {0, 65535}, "port on 127.0.0.1, 0 for any free one");
  app.add_option(
      "--allow-host", a->http.allowed_hosts,
      "name that clients and pages may know the proxy by, beside localhost (repeatable)");
  AddNumber(app, "--tokens", a->conversations.new_tokens, {1, 1 << 20},
            "of an answer in a chat, where a request has no max_tokens");
  AddNumber(app, "--max-sessions", a->conversations.sessions, {1, 1000},
            "dialogues whose sessions are kept for a next turn");
  AddNumber(app, "--max-waiting", a->limits.waiting, {1, 1000},
            "requests that wait for the one that runs");
  AddPublicFlags(app, a->conversations.known);
  AddPooling(app, a->pooling);
  AddReadyFd(app, a->ready_fd);
  AddSessionOptions(app, a->session);
  return [a] { return Run(*a); };
}

}  // namespace polyveil::tools
