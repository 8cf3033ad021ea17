// Text from a model that never sees it: client http://HOST:PORT PROMPT, or client FOLDER PROMPT
// [SET] for a server of its own in this process.
#include <polyveil/client.h>
#include <polyveil/server.h>

#include <cstdio>
#include <optional>
#include <string>

using namespace polyveil;

int main(int argc, char** argv) try {
  if (argc < 3) {
    std::fprintf(stderr, "usage: client URL|FOLDER PROMPT [SET]\n");
    return 2;
  }
  ClientOptions options;
  options.server = argv[1];
  std::optional<Server> server;
  if (options.server.rfind("http://", 0) != 0) {
    ServerOptions serving;
    serving.model = argv[1];
    if (argc > 3) serving.parameters = argv[3];
    options.allow_insecure = argc > 3;
    server = Server::Start(serving).value();
    options.server = server->url();
  }
  TextClient client = TextClient::Connect(options).value();
  std::fprintf(stderr, "%s, %s\n%.2f GB of keys, about %.1f s a token\n", client.model().c_str(),
               client.security().c_str(), static_cast<double>(client.key_bytes()) / 1e9,
               client.seconds_per_token());
  GenerateOptions generate;
  generate.tokens = 4;
  std::printf("%s", argv[2]);
  const auto result = client.Generate(argv[2], generate, [](const TokenEvent& token) {
    std::printf("%.*s", static_cast<int>(token.text.size()), token.text.data());
    std::fflush(stdout);
    return true;
  });
  std::printf("\n");
  return result.value().tokens > 0 ? 0 : 1;
} catch (const ErrorException& e) {
  std::fprintf(stderr, "client: %s\n", e.what());
  return 1;
}
