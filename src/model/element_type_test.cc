#include "model/element_type.h"

#include <gtest/gtest.h>
#include <sodium.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <vector>

namespace polyveil::model {
namespace {

std::vector<std::uint8_t> FromBase64(const std::string& text) {
  std::vector<std::uint8_t> out(text.size());
  std::size_t length = 0;
  EXPECT_EQ(sodium_base642bin(out.data(), out.size(), text.data(), text.size(), nullptr, &length,
                              nullptr, sodium_base64_VARIANT_ORIGINAL),
            0);
  out.resize(length);
  return out;
}

// Random blocks and what gguf-py makes of them (scripts/make_released_vectors.py).
TEST(ElementType, BlocksDecodeToTheReferenceBits) {
  std::ifstream in(POLYVEIL_VECTORS "/released/blocks.json");
  const auto cases = nlohmann::json::parse(in);
  ASSERT_EQ(cases.size(), 14u);
  for (const auto& each : cases) {
    const std::string name = each["type"];
    const auto bytes = FromBase64(each["bytes"]), expected = FromBase64(each["values"]);
    std::vector<float> values(expected.size() / sizeof(float));
    for (std::uint32_t number = 0; number < 32; ++number) {
      const auto type = ElementTypeFromGguf(number);
      if (!type || name != FormatOf(*type).name) continue;
      DecodeElements(*type, bytes.data(), values.size(), values.data());
    }
    for (std::size_t i = 0; i < values.size(); ++i) {
      float want;
      std::memcpy(&want, expected.data() + i * sizeof want, sizeof want);
      ASSERT_EQ(values[i], want) << name << " element " << i;
    }
  }
}

TEST(ElementType, EveryHalfIsExact) {
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const int exponent = bits >> 10 & 31, mantissa = bits & 1023;
    double want =
        exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
    if (exponent == 31) want = mantissa ? NAN : INFINITY;
    if (bits & 0x8000) want = -want;
    const float got = HalfToFloat(static_cast<std::uint16_t>(bits));
    ASSERT_TRUE(got == want || (std::isnan(got) && std::isnan(want))) << bits;
    if (!std::isnan(want)) {
      ASSERT_EQ(HalfFromDouble(want), bits);
    }
  }
}

TEST(ElementType, NamesAreTheFilesNames) {
  EXPECT_EQ(ElementTypeFromName("BF16"), ElementType::kBF16);
  EXPECT_EQ(ElementTypeFromName("BOOL"), ElementType::kBool);
  EXPECT_EQ(ElementTypeFromName("Q4_0"), std::nullopt);
  EXPECT_EQ(ElementTypeFromName("F8_E4M3"), std::nullopt);
  EXPECT_EQ(ElementTypeFromGguf(7), ElementType::kQ5_1);
  EXPECT_EQ(ElementTypeFromGguf(9), std::nullopt);
  EXPECT_EQ(ElementTypeFromGguf(0xffffffff), std::nullopt);
  EXPECT_EQ(NameOfGgufType(23), "IQ4_XS");
  EXPECT_EQ(NameOfGgufType(39), "MXFP4");
  EXPECT_EQ(NameOfGgufType(99), "number 99");
}

// gguf-py has no Q8_K: a scale of 32 bits, then signed bytes.
TEST(ElementType, Q8KIsAScaleTimesBytes) {
  std::vector<std::uint8_t> block(292);
  const float scale = 0.375f;
  std::memcpy(block.data(), &scale, sizeof scale);
  for (int i = 0; i < 256; ++i)
    block[static_cast<std::size_t>(4 + i)] = static_cast<std::uint8_t>(i);
  float values[256];
  DecodeElements(ElementType::kQ8_K, block.data(), 256, values);
  for (int i = 0; i < 256; ++i)
    EXPECT_EQ(values[i], scale * static_cast<float>(i < 128 ? i : i - 256));
}

}  // namespace
}  // namespace polyveil::model
