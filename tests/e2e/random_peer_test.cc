// The client against servers that answer at random: half-right answers, damaged at every layer. It
// must end every run by itself, with a result or an error. POLYVEIL_RANDOM_PEER_SECONDS sets how
// long (5 by default); the counts are printed.
#include <gtest/gtest.h>

#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>
#include <random>

#include "ckks/client/secret_key.h"
#include "support/mock_model.h"
#include "support/mock_session.h"
#include "wire/client/secret_key_file.h"

namespace polyveil::testing {
namespace {

using Random = std::mt19937_64;

std::string Noise(size_t bytes, Random& random) {
  std::string out(bytes, ' ');
  for (char& c : out) c = static_cast<char>(random());
  return out;
}

// What parsers look for, and what they do not expect.
const std::vector<std::string>& Pieces() {
  static const std::vector<std::string> pieces = {"\r\n",
                                                  "\r\n\r\n",
                                                  "0\r\n\r\n",
                                                  ";",
                                                  ":",
                                                  "[",
                                                  "{",
                                                  "\"",
                                                  "}",
                                                  "]",
                                                  ",",
                                                  "null",
                                                  "-1",
                                                  "1e999",
                                                  "18446744073709551615",
                                                  "\\u0000",
                                                  "\x1b[2J",
                                                  "\xff",
                                                  "HTTP/1.1 200 OK\r\n",
                                                  "Content-Length: 99999999999\r\n",
                                                  "Transfer-Encoding: chunked\r\n",
                                                  "Connection: close\r\n",
                                                  "ffffffffffffffff\r\n",
                                                  std::string(5000, '['),
                                                  std::string(70000, 'x'),
                                                  std::string(1, '\0')};
  return pieces;
}

void Damage(std::string& text, Random& random) {
  const size_t range = random() % 2 ? std::min<size_t>(text.size(), 600) : text.size();
  const size_t at = range == 0 ? 0 : random() % range;
  switch (random() % 6) {
    case 0:
      if (!text.empty()) text[at] = static_cast<char>(text[at] ^ (1 << random() % 8));
      break;
    case 1:
      text.resize(at);
      break;
    case 2:
      text.insert(at, Pieces()[random() % Pieces().size()]);
      break;
    case 3:
      text.erase(at, 1 + random() % 40);
      break;
    case 4:
      text.insert(at, text.substr(at, random() % 400));
      break;
    default:
      text.replace(at, std::min<size_t>(text.size() - at, 1 + random() % 8), Noise(4, random));
  }
}

// The body of a step in chunks of random sizes, some with extensions, some with trailers.
std::string RandomChunks(std::string_view body, Random& random) {
  std::string out = MockChunkedHeader();
  while (!body.empty()) {
    const size_t count = std::min<size_t>(body.size(), 1 + random() % 9000);
    std::string chunk = MockChunk(body.substr(0, count));
    if (random() % 8 == 0) chunk.insert(chunk.find('\r'), ";" + std::string(random() % 300, 'e'));
    out += chunk;
    body.remove_prefix(count);
  }
  return out + "0\r\n" + (random() % 8 ? "" : "Trailer: x\r\n") + "\r\n";
}

// Frames in any order, with damaged payloads and whole containers whose checksum is right.
wire::Bytes RandomFrames(MockModel& model, const MockRequest& request, Random& random) {
  wire::Bytes body;
  for (int i = 0; i < 4; ++i) {
    std::string payload = i == 3 ? AsText(model.Result(request, model.RandomResult()))
                                 : std::string(R"({"done":0.5,"operation":"x","queued":0})");
    if (random() % 2) Damage(payload, random);
    const auto type = static_cast<serve::FrameType>(random() % 3 ? 1 : 1 + random() % 5);
    const auto frame =
        serve::FormatFrame(i == 3 ? serve::FrameType::kResult : type, std::string_view(payload));
    body.insert(body.end(), frame.begin(), frame.end());
  }
  return body;
}

std::string RandomReply(MockModel& model, const MockRequest& request, Random& random) {
  const bool step = request.path.ends_with("/step");
  std::string reply;
  if (step && random() % 2) {
    const wire::Bytes frames =
        random() % 2 ? model.StepBody(request) : RandomFrames(model, request, random);
    reply = RandomChunks(AsText(frames), random);
  } else {
    reply = model.Reply(request);
  }
  if (random() % 64 == 0) reply = Noise(random() % 3000, random);
  // A run makes a dozen requests: some get as far as the last one.
  if (random() % 6 == 0) {
    for (size_t edits = 1 + random() % 3; edits > 0; --edits) Damage(reply, random);
  }
  return reply;
}

// In one to three pieces; now and then the connection ends with it.
void SendRandomly(const std::string& reply, MockPeer& peer, Random& random) {
  const size_t cut = reply.empty() ? 0 : random() % reply.size();
  peer.Send(std::string_view(reply).substr(0, cut));
  if (random() % 64 != 0) peer.Send(std::string_view(reply).substr(cut));
  if (random() % 8 == 0) peer.Close();
}

Status RunOnce(const MockServer& server, const ckks::SecretKey& key) {
  serve::RemoteOptions options;
  options.allow_insecure = true;
  options.retry_seconds = 0.12;
  options.max_step_seconds = 1;
  options.reply_seconds = 0.2;
  options.prepare_seconds = 1;
  options.max_key_bytes = 10'000'000;
  PV_ASSIGN_OR_RETURN(auto remote, serve::RemoteModel::Connect(server.url(), options));
  PV_ASSIGN_OR_RETURN(auto upload, serve::KeyUpload::Begin(*remote, wire::KeyIdOf(key)));
  PV_RETURN_IF_ERROR(upload.Write(wire::Bytes(5000, 1)));
  PV_ASSIGN_OR_RETURN(const std::string keys, upload.Finish());
  PV_ASSIGN_OR_RETURN(auto session, NewMockSession(*remote, key, keys));
  const std::vector<double> embedding(static_cast<size_t>(remote->info().d_model), 0.1);
  for (int i = 0; i < 3; ++i) PV_RETURN_IF_ERROR(session->Step(embedding, [](const auto&) {}));
  PV_RETURN_IF_ERROR(remote->Memory());
  PV_RETURN_IF_ERROR(remote->Latency("a"));
  return {};
}

TEST(RandomPeer, EveryRunEnds) {
  const char* given = std::getenv("POLYVEIL_RANDOM_PEER_SECONDS");
  const double seconds = given ? std::atof(given) : 5;
  MockModel model;
  const ckks::SecretKey key = ckks::SecretKey::Generate(model.params());
  std::mutex mutex;
  Random random(1);  // guarded by mutex
  const auto answer = [&](const MockRequest& request, MockPeer& peer) {
    Random own;
    {
      const std::lock_guard lock(mutex);
      own.seed(random());
    }
    SendRandomly(RandomReply(model, request, own), peer, own);
  };
  std::map<std::string, int> outcomes;
  double longest = 0;
  size_t requests = 0;
  auto server = std::make_unique<MockServer>(answer);
  for (Timer timer; timer.Seconds() < seconds;) {
    if (server->Requests().size() > 100) {  // it keeps them all
      requests += server->Requests().size();
      server = std::make_unique<MockServer>(answer);
    }
    Timer run;
    const Status status = RunOnce(*server, key);
    longest = std::max(longest, run.Seconds());
    ASSERT_LT(run.Seconds(), 60);
    ++outcomes[status.ok() ? "completed" : ErrorCodeName(status.error().code)];
    if (status.ok()) continue;
    for (const char c : status.error().message) ASSERT_GE(static_cast<unsigned char>(c), 0x20);
  }
  std::printf("random peers: %zu requests in %.0f s, longest run %.1f s;",
              requests + server->Requests().size(), seconds, longest);
  for (const auto& [name, count] : outcomes) std::printf(" %s %d", name.c_str(), count);
  std::printf("; peak memory %zu MB\n", static_cast<size_t>(PeakRssBytes() >> 20));
}

}  // namespace
}  // namespace polyveil::testing
