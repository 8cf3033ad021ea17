// What a hostile or broken server says: refused by name, in bounded time and memory. Small insecure
// parameters; the answers of an honest server with one of them exchanged.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <nlohmann/json.hpp>
#include <thread>

#include "ckks/client/secret_key.h"
#include "support/mock_model.h"
#include "support/mock_session.h"
#include "wire/client/secret_key_file.h"

namespace polyveil::testing {
namespace {

using nlohmann::json;
using serve::FormatFrame;
using serve::FrameType;

constexpr size_t kMegabyte = size_t{1} << 20;

std::string Nested(size_t levels) { return std::string(levels, '['); }

std::string AsBody(const wire::Bytes& frames) {
  return MockChunkedHeader() + MockChunk(AsText(frames)) + "0\r\n\r\n";
}
std::string AsFrame(FrameType type, std::string_view payload) {
  return AsBody(FormatFrame(type, payload));
}

class HostileServerTest : public ::testing::Test {
 protected:
  // Requests whose line ends so get this answer instead of an honest one.
  void Exchange(std::string line_end, MockServer::Answer answer) {
    hostile_.Set([line_end](const std::string& line) { return line.ends_with(line_end); },
                 std::move(answer));
  }
  void ExchangeText(std::string line_end, std::string reply) {
    Exchange(std::move(line_end),
             [reply](const MockRequest&, MockPeer& peer) { peer.Send(reply); });
  }
  void Serve(bool ipv6 = false) {
    server_ = std::make_unique<MockServer>(
        [this](const MockRequest& request, MockPeer& peer) {
          const auto hostile = hostile_.For(request);
          hostile ? hostile(request, peer) : (void)peer.Send(model_.Reply(request));
        },
        ipv6);
  }
  Result<std::unique_ptr<serve::RemoteModel>> Connect() {
    if (!server_) Serve();
    return serve::RemoteModel::Connect(server_->url(), options_);
  }
  // Everything that a run of one token does.
  Result<serve::SessionStep> Run() {
    PV_ASSIGN_OR_RETURN(remote_, Connect());
    PV_ASSIGN_OR_RETURN(auto upload, serve::KeyUpload::Begin(*remote_, wire::KeyIdOf(key_)));
    PV_RETURN_IF_ERROR(upload.Write(wire::Bytes(1000, 1)));
    PV_ASSIGN_OR_RETURN(const std::string keys, upload.Finish());
    PV_ASSIGN_OR_RETURN(const auto session, NewMockSession(*remote_, key_, keys));
    PV_RETURN_IF_ERROR(remote_->Memory());
    PV_RETURN_IF_ERROR(remote_->Latency("a"));
    return session->Step(
        std::vector<double>(16, 0.1),
        [this](const serve::RemoteProgress& progress) { operation_ = progress.operation; });
  }
  Error Refused() {
    const auto step = Run();
    return step.ok() ? Error{ErrorCode::kIo, "accepted"} : step.error();
  }
  void ExpectRefused(ErrorCode code, std::string_view what) {
    const Error error = Refused();
    EXPECT_EQ(error.code, code) << error.message;
    EXPECT_NE(error.message.find(what), std::string::npos) << error.message;
    EXPECT_LT(error.message.size(), 2000u);
  }
  std::vector<MockRequest> RequestsTo(std::string_view line_end) const {
    std::vector<MockRequest> out;
    for (const MockRequest& request : server_->Requests()) {
      if (request.Line().ends_with(line_end)) out.push_back(request);
    }
    return out;
  }

  MockModel model_;
  ckks::SecretKey key_ = ckks::SecretKey::Generate(model_.params());
  serve::RemoteOptions options_ = [] {
    serve::RemoteOptions options;
    options.allow_insecure = true;
    options.retry_seconds = 0.5;
    options.reply_seconds = 5;
    return options;
  }();
  std::string operation_;
  std::unique_ptr<serve::RemoteModel> remote_;

 private:
  ExchangedAnswer hostile_;

 protected:
  std::unique_ptr<MockServer> server_;  // ends first
};

TEST_F(HostileServerTest, AnHonestServerIsUnderstood) {
  const auto step = Run();
  ASSERT_TRUE(step.ok()) << step.error().message;
  EXPECT_EQ(step->residual.size(), 16u);
  EXPECT_EQ(operation_, "norm");
}

TEST_F(HostileServerTest, AnIpv6AddressInBrackets) {
  Serve(/*ipv6=*/true);
  const std::string text = server_->url().Text();
  EXPECT_EQ(text, "http://[::1]:" + server_->url().port);
  const auto url = serve::ParseUrl(text);
  ASSERT_TRUE(url.ok());
  EXPECT_TRUE(serve::RemoteModel::Connect(*url, options_).ok());
}

TEST(ParseUrl, TakesNamesAndAddressesAndNothingElse) {
  for (const auto& [text, authority] :
       {std::pair{"http://a-b.example:8080/", "a-b.example:8080"}, std::pair{"host", "host:80"},
        std::pair{"http://[::1]", "[::1]:80"}, std::pair{"[fe80::1%eth0]:7", ""},
        std::pair{"https://a.example", "a.example:443"}, std::pair{"https://a:80/", "a:80"},
        std::pair{"[fe80::1]:7", "[fe80::1]:7"}, std::pair{"127.0.0.1:65535", "127.0.0.1:65535"}}) {
    const auto url = serve::ParseUrl(text);
    EXPECT_EQ(url.ok() ? url->Authority() : "", authority) << text;
    if (!url.ok()) continue;
    EXPECT_EQ(url->tls, std::string(text).starts_with("https")) << text;
  }
  for (const char* text :
       {"", "http://", ":80", "::1", "[::1", "[]:80", "[::1]80", "[g::1]:80", "a:0", "a:65536",
        "a:b", "a b:80", "u@a:80", "a\r\nb:80", "ftp://a:80", "a:80/x", "[a.b]:80", "\xff:80"}) {
    EXPECT_FALSE(serve::ParseUrl(text).ok()) << text;
  }
}

// (a) Texts that nest deeper than a stack, in every place where JSON is read.
TEST_F(HostileServerTest, DeepJson) {
  const std::string deep = Nested(100000);
  for (const char* line : {"GET /v1/model", "POST /v1/keys", "/complete", "POST /v1/sessions",
                           "GET /v1/status", "/latency"}) {
    ExchangeText(line, MockReply(200, deep));
    ExpectRefused(ErrorCode::kCorrupt, "nested");
    if (line == std::string_view("/complete")) continue;  // looked up, and ready
    ExchangeText(line, MockReply(503, deep));
    EXPECT_NE(Refused().message, "accepted") << line;
  }
  for (const FrameType type : {FrameType::kProgress, FrameType::kTiming, FrameType::kError}) {
    ExchangeText("/step", AsFrame(type, deep));
    EXPECT_NE(Refused().message, "accepted");
  }
  // Inside a field whose value a message would show.
  const std::string info = serve::InfoToJson(model_.info()).dump();
  for (const char* field : {"\"rotations\":[", "\"relinearization_levels\":[", "\"context\":"}) {
    std::string body = info;
    const size_t at = body.find(field) + std::string_view(field).size();
    body.insert(at, Nested(100000) + std::string(100000, ']') + ",");
    ExchangeText("GET /v1/model", MockReply(200, body));
    ExpectRefused(ErrorCode::kCorrupt, "/v1/model");
  }
}

TEST_F(HostileServerTest, JsonThatIsLargeRepeatedOrOfOtherTypes) {
  ExchangeText("GET /v1/model", MockReply(200, std::string(5 * kMegabyte, ' ')));
  ExpectRefused(ErrorCode::kOutOfRange, "bound");
  ExchangeText("GET /v1/model", MockReply(200, R"({"name":"a","name":"b"})"));
  ExpectRefused(ErrorCode::kCorrupt, "twice");
  json info = serve::InfoToJson(model_.info());
  for (const json& value : {json("x"), json::array({1}), json::array({json::array({1, "x"})}),
                            json::array({json::array({1e9, 1})}), json(nullptr), json(-1)}) {
    info["keys"]["rotations"] = value;
    ExchangeText("GET /v1/model", MockReply(200, info.dump()));
    ExpectRefused(ErrorCode::kCorrupt, "rotations");
  }
  info = serve::InfoToJson(model_.info());
  for (const json& value :
       {json("x"), json::array({1}), json::array({json::array({"norm", 0, 3})}),
        json::array({json::array({"norm", 0, 3, -1})}), json::array({json::array({"x", 0, 3, 2})}),
        json(std::vector<json>(1 << 15, json::array({"norm", 0, 3, 2})))}) {
    info["estimate"]["levels"] = value;
    ExchangeText("GET /v1/model", MockReply(200, info.dump()));
    ExpectRefused(ErrorCode::kCorrupt, "levels");
  }
}

// Texts that no slots hold would take the client's memory.
TEST_F(HostileServerTest, TextsTogetherThatTheSlotsDoNotHold) {
  json info = serve::InfoToJson(model_.info());
  for (const auto& [value, code] :
       {std::pair{json("2"), ErrorCode::kCorrupt}, std::pair{json(3), ErrorCode::kCorrupt},
        std::pair{json(0), ErrorCode::kOutOfRange}, std::pair{json(-4), ErrorCode::kOutOfRange},
        std::pair{json(1 << 30), ErrorCode::kOutOfRange},
        std::pair{json(1 << 16), ErrorCode::kOutOfRange}}) {
    info["texts"] = value;
    ExchangeText("GET /v1/model", MockReply(200, info.dump()));
    ExpectRefused(code, "texts");
  }
}

// (b) Headers, chunk headers, bodies and trailers that never end: a piece without end behind a
// start.
TEST_F(HostileServerTest, RepliesWithoutEnd) {
  const std::string junk(4096, 'x');
  const std::string chunked = MockChunkedHeader();
  const std::string extension = "1;" + std::string(60000, 'e') + "\r\nx\r\n";
  const std::pair<std::string, std::string> cases[] = {
      {"HTTP/1.1 200 ", junk},
      {"HTTP/1.1 200 OK\r\n", "A: " + junk + "\r\n"},
      {"HTTP/1.1 200 OK\r\nA: ", junk},
      {chunked + "5;", junk},           // one extension
      {chunked, extension},             // an extension on every chunk
      {chunked, "1\r\nx\r\n"},          // small chunks
      {chunked + "0\r\n", "A: x\r\n"},  // trailers
      {chunked, MockChunk(junk)},
      {"HTTP/1.1 200 OK\r\nContent-Length: 4611686018427387904\r\n\r\n", junk},
      {"HTTP/1.1 200 OK\r\n\r\n", junk},  // to the connection's end
  };
  for (const auto& [start, piece] : cases) {
    size_t sent = 0;
    auto server = std::make_unique<MockServer>(
        [&, start = start, piece = piece](const MockRequest&, MockPeer& peer) {
          peer.Send(start);
          sent = peer.SendForEver(piece);
        });
    serve::ClientRequest request;
    request.method = "GET";
    request.path = "/v1/status";
    request.max_reply_bytes = 10000;
    Timer timer;
    const auto reply = serve::HttpClient(server->url()).Send(request);
    ASSERT_FALSE(reply.ok()) << start;
    EXPECT_TRUE(reply.error().code == ErrorCode::kOutOfRange ||
                reply.error().code == ErrorCode::kCorrupt)
        << start << ": " << reply.error().message;
    EXPECT_LT(timer.Seconds(), 60) << start;
    server.reset();                            // its threads have ended
    EXPECT_LT(sent, 20 * kMegabyte) << start;  // sockets hold some of it
  }
}

TEST_F(HostileServerTest, AStepThatNeverEnds) {
  options_.max_step_seconds = 0.6;
  const std::string progress = MockChunk(AsText(FormatFrame(
      FrameType::kProgress, std::string_view(R"({"done":0.1,"operation":"x","queued":1})"))));
  for (const std::string& piece : {progress, std::string("1;"), std::string("\x01")}) {
    Exchange("/step", [&](const MockRequest&, MockPeer& peer) {
      peer.Send(MockChunkedHeader());
      peer.SendForEver(piece, 0.02);
    });
    Timer timer;
    const Error error = Refused();
    EXPECT_NE(error.message, "accepted");
    EXPECT_LT(timer.Seconds(), 6);
  }
}

TEST_F(HostileServerTest, NoHttpAtAll) {
  for (const char* text :
       {"SSH-2.0-x\r\n\r\n", "HTTP/9.9 200 OK\r\n\r\n", "HTTP/1.1 999999 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "HTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n12345",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n"}) {
    ExchangeText("GET /v1/model", text);
    EXPECT_NE(Refused().message, "accepted") << text;
  }
}

// (c) What a server says is shown, not obeyed.
TEST_F(HostileServerTest, TextsForTheTerminal) {
  const std::string evil = "\x1b]0;owned\x07\x1b[2J\r\n\u202e" + std::string(3000, 'A');
  const auto plain = [](const std::string& text, size_t most) {
    EXPECT_LE(text.size(), most + 40);
    for (const char c : text) EXPECT_GE(static_cast<unsigned char>(c), 0x20);
    EXPECT_EQ(text.find("\u202e"), std::string::npos);
  };
  const json error = {{"error", {{"code", "mismatch"}, {"message", evil}}}};
  ExchangeText("POST /v1/sessions", MockReply(409, error.dump()));
  const Error shown = Refused();
  EXPECT_EQ(shown.code, ErrorCode::kMismatch);
  plain(shown.message, 1100);
  ExchangeText("POST /v1/sessions", MockReply(409, evil));
  plain(Refused().message, 200);

  const json progress = {{"done", 0.5}, {"operation", evil}, {"queued", 0}};
  ExchangeText("/step", AsFrame(FrameType::kProgress, progress.dump()));
  Refused();
  EXPECT_FALSE(operation_.empty());
  plain(operation_, 128);

  const json row = {{"name", evil}, {"count", 1}, {"seconds", 1}, {"bytes", 1}};
  const json latency = {{"steps", 1},
                        {"total_seconds", 1},
                        {"components", json::array({row})},
                        {"primitives", json::array({row})}};
  plain(serve::LatencyFromJson(latency).value().components.at(0).name, 256);
  plain(serve::MemoryFromJson(json::array({row})).value().at(0).name, 256);

  json info = serve::InfoToJson(model_.info());
  for (const char* field : {"name", "version", "backend", "key_storage"}) info[field] = evil;
  ExchangeText("GET /v1/model", MockReply(200, info.dump()));
  const auto remote = Connect();
  ASSERT_TRUE(remote.ok()) << remote.error().message;
  for (const std::string& text : {(*remote)->info().name, (*remote)->info().version,
                                  (*remote)->info().backend, (*remote)->info().key_storage}) {
    plain(text, 256);
  }
}

TEST_F(HostileServerTest, NamesThatWouldChangeAPath) {
  for (const char* name : {"", "a\r\nX: y", "../keys", "a b", "a/b", "\xc3\xa4"}) {
    for (const char* line : {"POST /v1/keys", "POST /v1/sessions"}) {
      ExchangeText(line, MockReply(201, json{{"id", name}}.dump()));
      ExpectRefused(ErrorCode::kCorrupt, "no name");
    }
  }
}

// (d) Security is computed here, whatever the server says of it.
TEST_F(HostileServerTest, SecurityIsTheParameters) {
  json info = serve::InfoToJson(model_.info());
  info["security"] = "128-bit, certified";
  info["insecure"] = false;
  info["log_qp"] = 1;
  info["max_log_qp"] = 1747;
  ExchangeText("GET /v1/model", MockReply(200, info.dump()));
  const auto remote = Connect();
  ASSERT_TRUE(remote.ok()) << remote.error().message;
  EXPECT_EQ((*remote)->info().security, model_.params()->Describe());
  EXPECT_TRUE((*remote)->info().insecure);
  EXPECT_EQ((*remote)->info().log_qp, model_.params()->log_qp());
  options_.allow_insecure = false;
  ExpectRefused(ErrorCode::kSecurity, "insecure");
}

// (e) Keys without end are refused before one is made, with both sizes.
TEST_F(HostileServerTest, KeysWithoutEnd) {
  serve::ModelInfo& info = model_.info();
  for (int rotation = 1; rotation < model_.params()->slots(); ++rotation) {
    for (int level = 0; level < 8; ++level) info.keys.rotations.emplace(rotation, level);
  }
  info.key_stream_bytes = u64{1} << 49;
  options_.max_key_bytes = 50'000'000;
  ExpectRefused(ErrorCode::kResource, "above the limit of 50000000");
  EXPECT_EQ(server_->Requests().size(), 1u);
  info.keys.rotations.emplace(model_.params()->slots(), 1);
  ExpectRefused(ErrorCode::kOutOfRange, "rotation");
}

// (f) A result that nobody has encrypted.
TEST_F(HostileServerTest, ResultsThatAreNotEncrypted) {
  for (const size_t part : {0, 1}) {
    Exchange("/step", [&, part](const MockRequest& request, MockPeer& peer) {
      ckks::Ciphertext result = model_.RandomResult();
      for (size_t i = 0; i < result.parts[part].limbs(); ++i)
        std::ranges::fill(result.parts[part].limb(i), u64{0});
      peer.Send(AsBody(FormatFrame(FrameType::kResult, model_.Result(request, result))));
    });
    ExpectRefused(ErrorCode::kCorrupt, part == 0 ? "of c0" : "of c1");
  }
}

TEST_F(HostileServerTest, FramesThatAreOthers) {
  const std::string huge("\x03\xff\xff\xff\xff", 5), unknown("\x07\0\0\0\0", 5);
  for (const std::string& bytes : {huge, unknown}) {
    ExchangeText("/step", MockChunkedHeader() + MockChunk(bytes) + "0\r\n\r\n");
    ExpectRefused(bytes == huge ? ErrorCode::kOutOfRange : ErrorCode::kCorrupt, "frame");
  }
  Exchange("/step", [&](const MockRequest& request, MockPeer& peer) {
    const wire::Bytes body = model_.StepBody(request);
    wire::Bytes twice = body;
    twice.insert(twice.end(), body.begin(), body.end());
    peer.Send(AsBody(twice));
  });
  ExpectRefused(ErrorCode::kCorrupt, "behind the result");
}

// A lost reply: the same request again, and the run goes on.
TEST_F(HostileServerTest, LostRepliesAreAskedForAgain) {
  options_.retry_seconds = 20;
  for (const char* line : {"POST /v1/keys", "/chunks/0", "POST /v1/sessions", "/step", "/status"}) {
    std::atomic<int> lost{0};
    Exchange(line, [&](const MockRequest& request, MockPeer& peer) {
      const std::string reply = model_.Reply(request);
      if (lost++ >= 2) return (void)peer.Send(reply);
      peer.Send(reply.substr(0, lost == 1 ? 0 : reply.size() / 2));
      peer.Close();
    });
    server_.reset();
    const auto step = Run();
    ASSERT_TRUE(step.ok()) << line << ": " << step.error().message;
    const auto requests = RequestsTo(line);
    ASSERT_EQ(requests.size(), 3u) << line;
    EXPECT_EQ(requests[0].body, requests[1].body) << line;
    EXPECT_EQ(requests[0].body, requests[2].body) << line;
  }
}

TEST_F(HostileServerTest, ALostCompletionIsLookedUp) {
  Exchange("/complete", [](const MockRequest&, MockPeer& peer) { peer.Close(); });
  const auto step = Run();
  ASSERT_TRUE(step.ok()) << step.error().message;
  EXPECT_EQ(RequestsTo("/complete").size(), 1u);
}

// Ctrl-Z and a paused machine: the time in which this process stands still is not the server's.
TEST_F(HostileServerTest, AStoppedClientHasNotWaited) {
  const MockServer server([](const MockRequest&, MockPeer& peer) {
    const pid_t self = getpid();
    if (const pid_t waker = fork(); waker == 0) {
      usleep(1'500'000);
      kill(self, SIGCONT);
      _exit(0);
    } else if (waker > 0) {
      kill(self, SIGSTOP);
      waitpid(waker, nullptr, 0);
    }
    peer.Send(MockReply(200, "{}"));
  });
  serve::ClientRequest request{.method = "GET", .path = "/"};
  request.reply_seconds = request.total_seconds = 0.6;
  const auto reply = serve::HttpClient(server.url()).Send(request);
  ASSERT_TRUE(reply.ok()) << reply.error().message;
  EXPECT_EQ(reply->status, 200);
}

TEST_F(HostileServerTest, AttemptsEnd) {
  for (const char* line : {"POST /v1/keys", "/chunks/0", "POST /v1/sessions", "/step"}) {
    Exchange(line, [](const MockRequest&, MockPeer& peer) { peer.Close(); });
    server_.reset();
    Timer timer;
    EXPECT_EQ(Refused().code, ErrorCode::kUnavailable) << line;
    EXPECT_LT(timer.Seconds(), 5) << line;
    EXPECT_GE(RequestsTo(line).size(), 2u) << line;
  }
}

// (q) Cancelled in the middle, the client still takes its session and keys away, and a server that
// does not answer cannot hold it.
TEST_F(HostileServerTest, CancelledRunsLeaveNothing) {
  std::atomic<bool> cancel{false};
  options_.cancel = &cancel;
  Exchange("/step", [&](const MockRequest&, MockPeer& peer) {
    cancel = true;
    peer.WaitForEver();
  });
  EXPECT_EQ(Refused().code, ErrorCode::kCancelled);
  EXPECT_EQ(RequestsTo("DELETE /v1/sessions").size(), 1u);
  EXPECT_TRUE(remote_->RemoveKeys("a").ok());

  cancel = false;
  server_.reset();
  Exchange("/complete", [&](const MockRequest&, MockPeer& peer) {
    cancel = true;
    peer.WaitForEver();
  });
  auto remote = Connect().value();
  auto upload = serve::KeyUpload::Begin(*remote, wire::KeyIdOf(key_)).value();
  EXPECT_EQ(upload.Finish().error().code, ErrorCode::kCancelled);
  upload.Abandon();
  EXPECT_EQ(RequestsTo("DELETE /v1/keys").size(), 1u);
}

TEST_F(HostileServerTest, AServerThatIgnoresCleanUpHoldsNobody) {
  auto remote = Connect().value();
  Exchange("DELETE /v1/keys", [](const MockRequest&, MockPeer& peer) { peer.WaitForEver(); });
  Timer timer;
  EXPECT_FALSE(remote->RemoveKeys("a").ok());
  EXPECT_LT(timer.Seconds(), 6);
}

// (g) To the server a text that has ended goes on.
TEST_F(HostileServerTest, PaddingLooksLikeAnyOtherStep) {
  auto remote = Connect().value();
  auto upload = serve::KeyUpload::Begin(*remote, wire::KeyIdOf(key_)).value();
  auto session = NewMockSession(*remote, key_, upload.handle()).value();
  ASSERT_TRUE(session->Step(std::vector<double>(16, 0.1), {}).ok());
  ASSERT_TRUE(session->Pad().ok());
  ASSERT_TRUE(session->Pad().ok());
  EXPECT_EQ(session->sent(), 3);
  const auto steps = RequestsTo("/step");
  ASSERT_EQ(steps.size(), 3u);
  for (size_t i = 0; i < steps.size(); ++i) {
    EXPECT_EQ(steps[i].body.size(), steps[0].body.size());
    EXPECT_EQ(steps[i].body[wire::kHeaderBytes], static_cast<char>(i));  // its position
  }
}

}  // namespace
}  // namespace polyveil::testing
