#include "wire/session_state.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "wire/packed_poly.h"

namespace polyveil::wire {
namespace {

struct Fixture {
  ckks::ParametersPtr params =
      ckks::Parameters::Create(ckks::FindParameters("test10").value()).value();
  Binding binding{params->digest(), HashBytes("test", {}), HashBytes("key", {})};
  std::vector<ckks::Ciphertext> values;

  Fixture() {
    std::mt19937_64 random(7);
    for (const int level : {2, -1, 0, 3}) {
      ckks::Ciphertext value;
      if (level >= 0) {
        value.level = level;
        value.scale = 0x1.8p40 + level;
        const Moduli moduli = LevelModuli(*params, level);
        for (int i = 0; i < 2; ++i) {
          ring::RnsPoly part(moduli.size(), params->n());
          for (size_t limb = 0; limb < moduli.size(); ++limb)
            for (u64& x : part.limb(limb))
              x = i == 1 && level == 0 ? 0 : random() % moduli[limb]->q;
          value.parts.push_back(std::move(part));
        }
      }
      values.push_back(std::move(value));
    }
  }
  Bytes Format() const { return FormatSessionState(*params, binding, 5, values); }
  Result<std::vector<ckks::Ciphertext>> Parse(ByteView bytes, u32 position = 5,
                                              size_t most = 4) const {
    return ParseSessionState(*params, bytes, binding, position, most);
  }
};

// Trivial encryptions, whose second part is zero, and values that are not there too.
TEST(SessionState, ComesBackBitByBit) {
  const Fixture f;
  const auto back = f.Parse(f.Format());
  ASSERT_TRUE(back.ok()) << back.error().message;
  ASSERT_EQ(back->size(), f.values.size());
  for (size_t i = 0; i < f.values.size(); ++i) {
    EXPECT_EQ((*back)[i].level, f.values[i].level);
    EXPECT_EQ((*back)[i].scale, f.values[i].scale);
    ASSERT_EQ((*back)[i].parts.size(), f.values[i].parts.size());
    for (size_t part = 0; part < f.values[i].parts.size(); ++part)
      for (size_t limb = 0; limb < f.values[i].parts[part].limbs(); ++limb)
        EXPECT_TRUE(std::ranges::equal((*back)[i].parts[part].limb(limb),
                                       f.values[i].parts[part].limb(limb)));
  }
  EXPECT_TRUE(
      ParseSessionState(*f.params, FormatSessionState(*f.params, f.binding, 0, {}), f.binding, 0, 4)
          ->empty());
}

TEST(SessionState, RefusesAnothersAndDamage) {
  const Fixture f;
  const Bytes bytes = f.Format();
  EXPECT_NE(f.Parse(bytes, 6).error().message.find("position = 5, expected 6"), std::string::npos);
  EXPECT_NE(f.Parse(bytes, 5, 3).error().message.find("4 values > 3"), std::string::npos);
  Fixture other;
  other.binding.key_id = HashBytes("other", {});
  EXPECT_EQ(other.Parse(bytes).error().code, ErrorCode::kMismatch);
  std::mt19937_64 random(3);
  for (int i = 0; i < 200; ++i) {
    Bytes damaged = bytes;
    damaged[random() % damaged.size()] ^= static_cast<std::uint8_t>(1 + random() % 255);
    EXPECT_FALSE(f.Parse(damaged).ok());
    EXPECT_FALSE(f.Parse(ByteView(bytes).first(random() % bytes.size())).ok());
  }
}

}  // namespace
}  // namespace polyveil::wire
