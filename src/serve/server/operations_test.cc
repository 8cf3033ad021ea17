#include "serve/server/operations.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

namespace polyveil::serve {
namespace {

TEST(Operations, CountsWhatIsAsked) {
  std::vector<LogEntry> log;
  Operations operations([&](const LogEntry& entry) { log.push_back(entry); });
  HttpRequest request;
  request.id = "7";
  request.method = "PUT";
  request.path = "/v1/keys/chunks/31";
  operations.Answered(request, "ann", 200, 0.5);
  operations.Answered(request, "ann", 429, 0.5);
  runtime::LatencyTable latency;
  latency.components = {{"norm", 4, 0.002}, {"bootstrap", 7, 5}};
  latency.total_seconds = 6;
  operations.Stepped(latency, 1, false);
  operations.Stepped(latency, 9, true);
  MemoryReport memory;
  memory.Add("keys", 5);
  const std::string text = operations.Text({3, 2, 1, 0}, memory);
  for (const char* line :
       {R"(polyveil_requests_total{method="PUT",route="/v1/keys/chunks/N",code="200"} 1)",
        R"(polyveil_rejected_total{code="429"} 1)", "polyveil_tokens_total 10",
        "polyveil_prompts_total 1", "polyveil_bootstraps_total 14",
        R"(polyveil_component_seconds_bucket{component="norm",le="0.003"} 2)",
        R"(polyveil_component_seconds_bucket{component="norm",le="0.001"} 0)",
        R"(polyveil_component_seconds_count{component="bootstrap"} 2)",
        R"(polyveil_component_seconds_sum{component="bootstrap"} 10)",
        "polyveil_step_seconds_sum 12", R"(polyveil_steps{state="running"} 1)",
        "polyveil_key_sets 3", R"(polyveil_memory_bytes{kind="keys"} 5)"})
    EXPECT_NE(text.find(std::string(line) + "\n"), std::string::npos) << line << "\n" << text;
  ASSERT_EQ(log.size(), 2u);
  EXPECT_EQ(log[1].status, 429);
  EXPECT_EQ(log[1].account, "ann");
}

// Whatever peers ask for: what is kept for good stays small, and a label is no one's to write.
TEST(Operations, PathsOfAnyoneAreNoLabels) {
  Operations operations({});
  std::mt19937_64 random(3);
  constexpr const char* kKnown[] = {"/keys", "/step", "/model", "/v1", "/files", "/jobs"};
  for (int i = 0; i < 20000; ++i) {
    HttpRequest request;
    request.method = i % 2 ? "GET" : "M" + std::to_string(i);
    request.path = "/v1";
    for (u64 n = random() % 8; n > 0; --n)
      request.path += random() % 3 ? kKnown[random() % 6] : "/evil\"} " + std::to_string(random());
    operations.Answered(request, "", i % 3 ? 401 : 404, 0);
  }
  const std::string text = operations.Text({}, {});
  EXPECT_LT(text.size(), 20000u);
  EXPECT_EQ(text.find("evil"), std::string::npos);
}

}  // namespace
}  // namespace polyveil::serve
