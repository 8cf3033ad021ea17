// Generation's encrypted steps through real HTTP on a small insecure ring.
#include <thread>

#include "base/buffer.h"
#include "e2e/served_fixture.h"

namespace polyveil::testing {
namespace {

TEST_F(ServedModelTest, StepsEqualTheReference) {
  Client client = NewClient();
  auto session = client.NewSession();
  model::DecoderReference reference(*served_.decoder);
  std::mt19937_64 random(3);
  ExpectStepsAgree(*session, reference, 4, random);
}

TEST_F(ServedModelTest, ReportsProgressBytesAndATableThatAddsUp) {
  Client client = NewClient();
  auto session = client.NewSession();
  std::mt19937_64 random(3);
  double last = 0;
  int reports = 0;
  const auto step = session->Step(Embedding(random), [&](const serve::RemoteProgress& progress) {
    EXPECT_GE(progress.done, last);
    last = progress.done;
    ++reports;
  });
  ASSERT_TRUE(step.ok()) << step.error().message;
  EXPECT_LE(last, 1);
  const auto& params = *client.remote->params();
  EXPECT_GE(step->bytes_up, wire::TokenBytes(params, client.remote->info().input_level));
  EXPECT_GE(step->bytes_down, wire::ResultBytes(params, client.remote->info().output_level));
  double components = 0, primitives = 0;
  for (const auto& row : step->server.components) components += row.seconds;
  for (const auto& row : step->server.primitives) primitives += row.seconds;
  EXPECT_NEAR(components, step->server.total_seconds, 1e-9);
  EXPECT_NEAR(primitives, step->server.total_seconds, 1e-9);
  EXPECT_GT(step->server.total_seconds, 0);
}

TEST_F(ServedModelTest, TwoClientsAtTheSameTimeKeepApart) {
  Client first = NewClient();
  Client second = NewClient();
  const auto run = [&](Client& client, std::uint64_t seed) {
    auto session = client.NewSession();
    model::DecoderReference reference(*served_.decoder);
    std::mt19937_64 random(seed);
    ExpectStepsAgree(*session, reference, 3, random);
  };
  std::thread other([&] { run(second, 8); });
  run(first, 7);
  other.join();
}

TEST_F(ServedModelTest, StepsOfTwoSessionsRunTogether) {
  SetThreads(2);
  serve::ServiceLimits limits = Limits();
  limits.running_steps = 2;
  Serve(limits);
  Client client = NewClient();  // both texts are of one client: they share its keys
  const auto run = [&](std::uint64_t seed) {
    auto session = client.NewSession();
    model::DecoderReference reference(*served_.decoder);
    std::mt19937_64 random(seed);
    ExpectStepsAgree(*session, reference, 3, random);
  };
  const auto second = [&] {
    auto remote = Connect();  // a connection of its own
    auto session = serve::EncryptedSession::Create(*remote, client.key, client.keys).value();
    model::DecoderReference reference(*served_.decoder);
    std::mt19937_64 random(8);
    ExpectStepsAgree(*session, reference, 3, random);
  };
  std::thread other(second);
  run(7);
  other.join();
}

TEST_F(ServedModelTest, KeysAreKeptAsMemoryAllows) {
  const auto& estimate = served_.model->estimate();
  const u64 expanded = estimate.key_bytes_memory, compact = estimate.key_bytes_compact;
  EXPECT_EQ(expanded, 2 * compact);
  serve::ServiceLimits limits = Limits();
  limits.key_memory_bytes = expanded + compact;
  Serve(limits);
  // The first client's keys are expanded, the second one's compact, a third one's do not fit.
  Client first = NewClient();
  EXPECT_EQ(first.remote->info().key_set_bytes, expanded);
  EXPECT_EQ(first.remote->info().key_expansion_seconds, 0);
  Client second = NewClient();
  EXPECT_EQ(second.remote->info().key_set_bytes, compact);
  EXPECT_GT(second.remote->info().key_expansion_seconds, 0);
  auto third = Connect();
  EXPECT_EQ(serve::KeyUpload::Begin(*third, Digest{}).error().code, ErrorCode::kResource);
  for (Client* client : {&first, &second}) {
    auto session = client->NewSession();
    model::DecoderReference reference(*served_.decoder);
    std::mt19937_64 random(3);
    ExpectStepsAgree(*session, reference, 2, random);
  }
}

// What the report names is in the buffer pool, and nearly all that is in use there has a name.
TEST_F(ServedModelTest, MemoryReportAddsUpToThePool) {
  const size_t before = buffer_pool::GetStats().bytes_in_use;
  serve::ServiceLimits limits = Limits();
  limits.key_storage = ckks::KeyStorage::kCompact;
  Serve(limits);
  Client client = NewClient();
  auto session = client.NewSession();
  std::mt19937_64 random(3);
  ASSERT_TRUE(session->Step(Embedding(random), {}).ok());
  const auto report = client.remote->Memory();
  ASSERT_TRUE(report.ok()) << report.error().message;
  size_t keys = 0, named = 0, working = 0, cached = 0;
  for (const auto& [name, bytes] : *report) {
    if (name.starts_with("keys: ")) {
      keys += bytes;
      EXPECT_TRUE(name.ends_with(", compact") || name == "keys: encapsulation, compact") << name;
    }
    if (name == MemoryReport::kWorking) working = bytes;
    if (name == MemoryReport::kCached) cached = bytes;
    const bool outside = name == "permutation tables" || name == "plaintexts of weights" ||
                         name == MemoryReport::kWorking || name == MemoryReport::kCached ||
                         name == MemoryReport::kPeakRss;
    if (!outside) named += bytes;
    EXPECT_GT(bytes, 0u) << name;
  }
  EXPECT_EQ(keys, served_.model->estimate().key_bytes_compact);
  const buffer_pool::Stats stats = buffer_pool::GetStats();
  EXPECT_EQ(named + working, stats.bytes_in_use);
  EXPECT_EQ(cached, stats.bytes_cached);
  // Unclaimed: sizes rounded up to the pool's classes (an eighth, or a page for each of many small
  // buffers) and what this process' own client holds.
  const size_t client_bytes = 4u << 20;
  EXPECT_LT(working, before + named / 8 + client_bytes);
}

TEST_F(ServedModelTest, TheContextEndsWithAnError) {
  Client client = NewClient();
  auto session = client.NewSession();
  std::mt19937_64 random(3);
  for (int i = 0; i < bundle_->config.context; ++i) {
    ASSERT_TRUE(session->Step(Embedding(random), {}).ok());
  }
  const auto step = session->Step(Embedding(random), {});
  ASSERT_FALSE(step.ok());
  EXPECT_EQ(step.error().code, ErrorCode::kOutOfRange) << step.error().message;
}

TEST_F(ServedModelTest, SessionsAndKeysEnd) {
  Client client = NewClient();
  { auto session = client.NewSession(); }
  auto session = client.NewSession();
  ASSERT_TRUE(client.remote->RemoveKeys(client.keys).ok());
  std::mt19937_64 random(3);
  const auto step = session->Step(Embedding(random), {});
  ASSERT_FALSE(step.ok());
  EXPECT_EQ(step.error().code, ErrorCode::kNotFound) << step.error().message;
  EXPECT_EQ(client.remote->CreateSession(client.keys).error().code, ErrorCode::kNotFound);
}

TEST_F(ServedModelTest, LimitsSessionsAndKeySets) {
  Client client = NewClient();
  std::vector<std::unique_ptr<serve::EncryptedSession>> sessions;
  for (size_t i = 0; i < Limits().sessions; ++i) sessions.push_back(client.NewSession());
  const auto more = client.remote->CreateSession(client.keys);
  EXPECT_EQ(more.error().code, ErrorCode::kResource) << more.error().message;
  const wire::Bytes stream = KeyStream(*client.remote, client.key);
  const wire::ByteView chunk = wire::ByteView(stream).first(Limits().chunk_bytes);
  for (size_t i = 1; i < Limits().key_sets; ++i) {
    EXPECT_TRUE(BeginUpload(*client.remote, client.key, chunk).ok());
  }
  EXPECT_EQ(BeginUpload(*client.remote, client.key, {}).error().code, ErrorCode::kResource);
}

TEST_F(ServedModelTest, RefusesAnInsecureSetUnlessAllowed) {
  const auto remote = serve::RemoteModel::Connect(url(), {});
  ASSERT_FALSE(remote.ok());
  EXPECT_EQ(remote.error().code, ErrorCode::kSecurity);
}

TEST_F(ServedModelTest, ACancelledStepLeavesTheSessionAsItWas) {
  Client client = NewClient();
  std::atomic<bool> cancel{false}, finished{false};
  serve::RemoteOptions options = Options();
  options.cancel = &cancel;
  auto remote = serve::RemoteModel::Connect(url(), options).value();
  auto session = serve::EncryptedSession::Create(*remote, client.key, client.keys).value();
  model::DecoderReference reference(*served_.decoder);
  std::mt19937_64 random(3);
  ExpectStepsAgree(*session, reference, 1, random);
  // Others keep the machine busy, so that the step waits long enough to be given up.
  const auto keep_busy = [&](std::uint64_t seed) {
    Client other = NewClient();
    for (auto busy = other.NewSession(); !finished; busy = other.NewSession()) {
      std::mt19937_64 seeded(seed);
      for (int i = 0; i < bundle_->config.context && !finished; ++i) {
        EXPECT_TRUE(busy->Step(Embedding(seeded), {}).ok());
      }
    }
  };
  std::thread first(keep_busy, 21), second(keep_busy, 22);
  std::this_thread::sleep_for(std::chrono::milliseconds(700));
  bool given_up = false;
  for (int i = 0; i < 20 && !given_up && session->position() < 5; ++i) {
    std::thread later([&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      cancel = true;
    });
    std::mt19937_64 copy = random;
    const auto embedding = Embedding(copy);
    const auto step = session->Step(embedding, {});
    later.join();
    cancel = false;
    given_up = !step.ok();
    if (given_up) {
      EXPECT_EQ(step.error().code, ErrorCode::kCancelled) << step.error().message;
    } else {
      random = copy;
      ASSERT_TRUE(reference.Step(embedding).ok());
    }
  }
  finished = true;
  first.join();
  second.join();
  ASSERT_TRUE(given_up);
  ExpectStepsAgree(*session, reference, 1, random);
}

TEST_F(ServedModelTest, AServerThatStopsInTheMiddleIsAnError) {
  Client client = NewClient();
  auto session = client.NewSession();
  std::mt19937_64 random(3);
  std::thread stop([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    server_->Stop();
  });
  Status status;
  for (int i = 0; i < bundle_->config.context && status.ok(); ++i) {
    const auto step = session->Step(Embedding(random), {});
    if (!step.ok()) status = step.error();
  }
  stop.join();
  ASSERT_FALSE(status.ok());
  EXPECT_TRUE(status.error().code == ErrorCode::kUnavailable ||
              status.error().code == ErrorCode::kCancelled)
      << status.error().message;
}

// A value beyond its interval ends the text, not the keys' use for another one.
TEST_F(ServedModelTest, RefusesAResultWhoseValueLeftItsInterval) {
  Client client = NewClient();
  auto broken = client.NewSession();
  std::mt19937_64 random(3);
  ASSERT_TRUE(broken->Step(Embedding(random), {}).ok());
  // Mean square 64 where the norms' intervals end at 4.
  const auto refused = broken->Step(std::vector<double>(bundle_->config.d_model, 8.0), {});
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, ErrorCode::kUntrustedResult);
  EXPECT_NE(refused.error().message.find("a value left its interval at token 2"), std::string::npos)
      << refused.error().message;
  // The cache holds what it left behind: no later token is believed either.
  EXPECT_EQ(broken->Step(Embedding(random), {}).error().message, refused.error().message);
  auto other = client.NewSession();
  model::DecoderReference reference(*served_.decoder);
  ExpectStepsAgree(*other, reference, 3, random);
}

}  // namespace
}  // namespace polyveil::testing
