#include "serve/client/resolve.h"

#include <gtest/gtest.h>

#include <future>

#include "base/system.h"

namespace polyveil::serve {
namespace {

const auto kNever = [] { return false; };

// A resolver that answers when told: what a name server that drops every query looks like.
struct HangingResolver {
  std::promise<void> answer;
  std::shared_future<void> answered{answer.get_future()};
  Lookup lookup() const {
    return [asked = answered]() -> Result<Endpoints> {
      asked.wait();
      return Endpoints{};
    };
  }
};

TEST(Resolve, AddressesOfLoopback) {
  for (const char* host : {"127.0.0.1", "::1"}) {
    const auto found = ResolveWithin(20, kNever, [=] { return LookUp(host, "8117"); });
    ASSERT_TRUE(found.ok()) << found.error().message;
    ASSERT_EQ(found.value().size(), 1u);
    EXPECT_EQ(found.value().begin()->endpoint().address().to_string(), host);
    EXPECT_EQ(found.value().begin()->endpoint().port(), 8117);
  }
}

TEST(Resolve, ALookupThatHangsEndsWithTheTime) {
  HangingResolver resolver;
  const Timer timer;
  const auto found = ResolveWithin(0.3, kNever, resolver.lookup());
  ASSERT_FALSE(found.ok());
  EXPECT_EQ(found.error().code, ErrorCode::kUnavailable);
  EXPECT_NE(found.error().message.find("not resolved after 0.3 s"), std::string::npos);
  EXPECT_GE(timer.Seconds(), 0.3);
  EXPECT_LT(timer.Seconds(), 5);
  resolver.answer.set_value();  // to nobody
}

TEST(Resolve, ALookupThatHangsEndsWhenCancelled) {
  HangingResolver resolver;
  const Timer timer;
  const auto found = ResolveWithin(
      60, [&] { return timer.Seconds() > 0.2; }, resolver.lookup());
  ASSERT_FALSE(found.ok());
  EXPECT_EQ(found.error().code, ErrorCode::kCancelled);
  EXPECT_LT(timer.Seconds(), 5);
  resolver.answer.set_value();
}

TEST(Resolve, NoTimeIsNoHang) {
  HangingResolver resolver;
  EXPECT_FALSE(ResolveWithin(-1, kNever, resolver.lookup()).ok());
  EXPECT_FALSE(ResolveWithin(0, kNever, resolver.lookup()).ok());
  resolver.answer.set_value();
}

TEST(Resolve, ErrorsOfTheLookupPass) {
  const auto found = ResolveWithin(20, kNever, []() -> Result<Endpoints> {
    return MakeError(ErrorCode::kUnavailable, "cannot resolve the name: test");
  });
  ASSERT_FALSE(found.ok());
  EXPECT_EQ(found.error().message, "cannot resolve the name: test");
}

}  // namespace
}  // namespace polyveil::serve
