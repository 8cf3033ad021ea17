// Random clients: random, mutated, cut and slow requests from several threads while a client's text
// goes on. POLYVEIL_RANDOM_PEER_SECONDS sets the duration (default 4), POLYVEIL_RANDOM_PEER_SEED
// the seed.
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <thread>

#include "ckks/client/encryptor.h"
#include "e2e/served_fixture.h"
#include "serve/server/test_socket.h"

namespace polyveil::testing {
namespace {

using serve::TestSocket;

double FromEnvironment(const char* name, double otherwise) {
  const char* text = std::getenv(name);
  return text ? std::atof(text) : otherwise;
}

std::string TextOfReply(wire::ByteView bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

enum Kind { kAsItIs, kMutated, kCut, kReset, kHalfClosed, kNoise, kChunks, kSlow, kFlow, kKinds };
constexpr const char* kNames[kKinds] = {"valid",   "mutated",     "cut short",
                                        "reset",   "half-closed", "noise",
                                        "chunked", "slow",        "upload flows"};

// What hostile peers know: a good request of every route, with names that work.
struct Corpus {
  std::vector<std::string> requests;
  std::string key_id;
  wire::Bytes stream;
  size_t chunk_bytes = 0;
  int port = 0;
};

std::string Format(const std::string& method, const std::string& path, const std::string& body,
                   const std::string& fields = {}) {
  return method + " " + path + " HTTP/1.1\r\nHost: localhost\r\n" + fields +
         "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
}

std::string Named(const std::string& handle) { return "X-Polyveil-Handle: " + handle + "\r\n"; }

std::string PutChunk(const std::string& keys, u64 index, wire::ByteView bytes) {
  return Format(
      "PUT", "/v1/keys/chunks/" + std::to_string(index), TextOfReply(bytes),
      Named(keys) + "X-Polyveil-Checksum: " + ToHex(serve::ChunkChecksum(bytes)) + "\r\n");
}

class Peer {
 public:
  Peer(const Corpus& corpus, std::uint64_t seed) : corpus_(corpus), random_(seed) {}

  void Run(double seconds) {
    for (const Timer timer; timer.Seconds() < seconds;) {
      const Kind kind = static_cast<Kind>(random_() % kKinds);
      ++counts[kind];
      if (kind == kFlow) {
        UploadFlow();
      } else {
        Send(kind);
      }
    }
  }
  std::array<size_t, kKinds> counts{};
  size_t replies = 0;

 private:
  size_t Below(size_t limit) { return limit == 0 ? 0 : random_() % limit; }
  std::string Random(size_t size) {
    std::string out(size, '\0');
    for (char& c : out) c = static_cast<char>(random_());
    return out;
  }
  const std::string& Good() { return corpus_.requests[Below(corpus_.requests.size())]; }

  std::string Mutated() {
    std::string text = Good();
    // Half of them in the header, where a byte decides more.
    const size_t range = random_() % 2 ? text.size() : std::min<size_t>(text.size(), 300);
    for (size_t i = 1 + Below(8); i > 0; --i) {
      const size_t at = Below(std::min(range, text.size()));
      switch (random_() % 4) {
        case 0:
          text[at] = static_cast<char>(random_());
          break;
        case 1:
          text.insert(at, Random(Below(40)));
          break;
        case 2:
          text.erase(at, Below(40));
          break;
        default:
          text.insert(at, text.substr(Below(text.size()), Below(200)));
      }
      if (text.empty()) break;
    }
    return text;
  }

  std::string Chunks() {
    std::string text =
        "POST /v1/keys HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (size_t i = Below(30); i > 0; --i) {
      const std::string data = Random(Below(200));
      char size[32];
      std::snprintf(size, sizeof size, "%zx",
                    random_() % 8 ? data.size() : random_() >> (random_() % 60));
      text +=
          size + (random_() % 8 ? std::string() : ";" + Random(Below(50))) + "\r\n" + data + "\r\n";
    }
    return text + (random_() % 2 ? "0\r\n\r\n" : "");
  }

  std::string TextOf(Kind kind) {
    if (kind == kMutated) return Mutated();
    if (kind == kNoise) return Random(Below(3000));
    if (kind == kChunks) return Chunks();
    const std::string text = random_() % 4 ? Good() : Mutated();
    return kind == kCut || kind == kReset ? text.substr(0, Below(text.size())) : text;
  }

  void Send(Kind kind) {
    TestSocket socket;
    socket.SetTimeout(5);
    if (!socket.Connect(corpus_.port)) return;
    std::string text = TextOf(kind);
    if (kind == kSlow) {
      const size_t at = Below(text.size());
      socket.Write(text.substr(0, at));
      std::this_thread::sleep_for(std::chrono::milliseconds(Below(200)));
      text.erase(0, at);
    }
    socket.Write(text);
    if (kind == kReset) return socket.Abort();
    if (kind != kAsItIs || random_() % 2) socket.ShutdownWrite();
    replies += !socket.ReadSome().empty();
  }

  // A name from a reply's body.
  std::string Ask(TestSocket& socket, const std::string& request) {
    if (!socket.Write(request)) return {};
    const std::string reply = socket.ReadSome();
    replies += !reply.empty();
    const size_t at = reply.find("\"id\":\"");
    return at == std::string::npos ? std::string() : reply.substr(at + 6, 32);
  }

  // An upload that ends where it likes: nowhere, in the middle, complete, with sessions or removed.
  void UploadFlow() {
    TestSocket socket;
    socket.SetTimeout(5);
    if (!socket.Connect(corpus_.port)) return;
    const nlohmann::json begin = {{"key_id", corpus_.key_id},
                                  {"total_bytes", corpus_.stream.size()}};
    const std::string keys = Ask(socket, Format("POST", "/v1/keys", begin.dump()));
    if (keys.empty()) return;
    const size_t count = (corpus_.stream.size() + corpus_.chunk_bytes - 1) / corpus_.chunk_bytes;
    const size_t end = random_() % 3 ? Below(count) : count;
    for (size_t i = 0; i < end; ++i) {
      const auto rest = wire::ByteView(corpus_.stream).subspan(i * corpus_.chunk_bytes);
      Ask(socket, PutChunk(keys, i, rest.first(std::min(rest.size(), corpus_.chunk_bytes))));
    }
    if (end < count && random_() % 2) return;
    socket.Write(Format("POST", "/v1/keys/complete", "", Named(keys)));
    if (random_() % 2) return;  // with the completion under way
    socket.ReadSome();
    const std::string create = nlohmann::json{{"keys", keys}}.dump();
    for (size_t i = Below(4); i > 0; --i) Ask(socket, Format("POST", "/v1/sessions", create));
    if (random_() % 2) Ask(socket, Format("DELETE", "/v1/keys", "", Named(keys)));
  }

  const Corpus& corpus_;
  std::mt19937_64 random_;
};

class RandomClientsTest : public ServedModelTest {
 protected:
  // Requests with names that exist, of a client of their own.
  Corpus MakeCorpus() {
    Client client = NewClient();
    const std::string session = client.remote->CreateSession(client.keys).value();
    const auto& remote = *client.remote;
    const ckks::Encoder encoder(remote.params());
    const int level = remote.info().input_level;
    const std::vector<double> values(static_cast<size_t>(remote.info().d_model), 0.1);
    const auto plain = encoder.Encode(values, level, remote.params()->scale(level)).value();
    const wire::Binding binding{remote.params()->digest(),
                                DigestFromHex(served_.info.program_digest).value(),
                                wire::KeyIdOf(client.key)};
    const auto token =
        wire::FormatToken(*remote.params(), binding, 0, ckks::Encryptor(client.key).Encrypt(plain));
    Corpus corpus;
    corpus.stream = KeyStream(remote, client.key);
    corpus.chunk_bytes = Limits().chunk_bytes;
    corpus.key_id = ToHex(wire::KeyIdOf(client.key));
    corpus.port = server_->port();
    const auto chunk = wire::ByteView(corpus.stream).first(corpus.chunk_bytes);
    const nlohmann::json begin = {{"key_id", corpus.key_id}, {"total_bytes", corpus.stream.size()}};
    corpus.requests = {Format("GET", "/v1/model", ""),
                       Format("HEAD", "/v1/model", ""),
                       Format("GET", "/v1/status", ""),
                       Format("POST", "/v1/keys", begin.dump()),
                       Format("GET", "/v1/keys", "", Named(client.keys)),
                       PutChunk(client.keys, 0, chunk),
                       Format("POST", "/v1/keys/complete", "", Named(client.keys)),
                       Format("POST", "/v1/sessions", nlohmann::json{{"keys", client.keys}}.dump()),
                       Format("POST", "/v1/sessions/step", TextOfReply(token), Named(session)),
                       Format("GET", "/v1/sessions/latency", "", Named(session)),
                       Format("DELETE", "/v1/sessions", "", Named(session))};
    return corpus;
  }
  static serve::ServiceLimits PeerLimits() {
    serve::ServiceLimits limits = Limits();
    limits.left_seconds = 0.05;
    limits.yield_seconds = 3600;  // the victim's place is its own
    limits.upload_idle_seconds = 2;
    return limits;
  }
};

TEST_F(RandomClientsTest, NobodyElseIsHarmed) {
  const double seconds = FromEnvironment("POLYVEIL_RANDOM_PEER_SECONDS", 4);
  const auto seed = static_cast<std::uint64_t>(FromEnvironment("POLYVEIL_RANDOM_PEER_SEED", 1));
  Serve(PeerLimits());
  Client victim = NewClient();
  const Corpus corpus = MakeCorpus();
  const size_t rss_before = CurrentRssBytes();
  std::vector<Peer> peers;
  for (std::uint64_t i = 0; i < 3; ++i) peers.emplace_back(corpus, seed * 1000 + i);
  std::vector<std::thread> threads;
  for (Peer& peer : peers) threads.emplace_back([&] { peer.Run(seconds); });
  size_t steps = 0;
  std::mt19937_64 random(3);
  for (const Timer timer; timer.Seconds() < seconds && !HasFailure();) {
    auto session = victim.NewSession();
    model::DecoderReference reference(*served_.decoder);
    for (int i = 0; i < 3; ++i, ++steps) ExpectStepsAgree(*session, reference, 1, random);
  }
  for (std::thread& thread : threads) thread.join();
  size_t total = 0, replies = 0;
  for (int kind = 0; kind < kKinds; ++kind) {
    size_t count = 0;
    for (const Peer& peer : peers) count += peer.counts[static_cast<size_t>(kind)];
    std::printf("%-14s %zu\n", kNames[kind], count);
    total += count;
  }
  for (const Peer& peer : peers) replies += peer.replies;
  std::printf("requests %zu, replies %zu, steps of the victim %zu, resident %.1f MB -> %.1f MB\n",
              total, replies, steps, static_cast<double>(rss_before) / 1e6,
              static_cast<double>(CurrentRssBytes()) / 1e6);
  EXPECT_GT(replies, 0u);
  EXPECT_GT(steps, 0u);
  // Uploads that the peers began and left hold their places for so long.
  std::this_thread::sleep_for(std::chrono::duration<double>(PeerLimits().upload_idle_seconds + 1));
  Client after = NewClient();
  auto session = after.NewSession();
  model::DecoderReference reference(*served_.decoder);
  ExpectStepsAgree(*session, reference, 1, random);
}

}  // namespace
}  // namespace polyveil::testing
