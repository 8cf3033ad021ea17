#include "model/element_type.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "base/check.h"
#include "model/load.h"
#include "model/quantized_blocks.h"

namespace polyveil::model {
namespace {

using DecodeBlock = void (*)(const std::uint8_t* block, float* out);
constexpr int kNoNumber = -1;  // of a type that GGUF files do not have

struct Named {
  ElementFormat format;
  int gguf;                     // ggml's number of the type
  DecodeBlock block = nullptr;  // of quantised types
};

// In the order of ElementType.
constexpr Named kEntries[] = {
    {{"F64", 1, 8, true}, 28},
    {{"F32", 1, 4, true}, 0},
    {{"F16", 1, 2, true}, 1},
    {{"BF16", 1, 2, true}, 30},
    {{"Q4_0", 32, 18, true}, 2, DecodeQ4_0},
    {{"Q4_1", 32, 20, true}, 3, DecodeQ4_1},
    {{"Q5_0", 32, 22, true}, 6, DecodeQ5_0},
    {{"Q5_1", 32, 24, true}, 7, DecodeQ5_1},
    {{"Q8_0", 32, 34, true}, 8, DecodeQ8_0},
    {{"Q2_K", 256, 84, true}, 10, DecodeQ2_K},
    {{"Q3_K", 256, 110, true}, 11, DecodeQ3_K},
    {{"Q4_K", 256, 144, true}, 12, DecodeQ4_K},
    {{"Q5_K", 256, 176, true}, 13, DecodeQ5_K},
    {{"Q6_K", 256, 210, true}, 14, DecodeQ6_K},
    {{"Q8_K", 256, 292, true}, 15, DecodeQ8_K},
    {{"IQ4_NL", 32, 18, true}, 20, DecodeIq4Nl},
    {{"IQ4_XS", 256, 136, true}, 23, DecodeIq4Xs},
    {{"I64", 1, 8, false}, 27},
    {{"I32", 1, 4, false}, 26},
    {{"I16", 1, 2, false}, 25},
    {{"I8", 1, 1, false}, 24},
    {{"U8", 1, 1, false}, kNoNumber},
    {{"BOOL", 1, 1, false}, kNoNumber},
};
static_assert(std::size(kEntries) == static_cast<std::size_t>(ElementType::kBool) + 1);

// Types that are known by name alone.
constexpr std::pair<std::uint32_t, const char*> kUnreadNames[] = {
    {4, "Q4_2"},        {5, "Q4_3"},        {9, "Q8_1"},        {16, "IQ2_XXS"}, {17, "IQ2_XS"},
    {18, "IQ3_XXS"},    {19, "IQ1_S"},      {21, "IQ3_S"},      {22, "IQ2_S"},   {29, "IQ1_M"},
    {31, "Q4_0_4_4"},   {32, "Q4_0_4_8"},   {33, "Q4_0_8_8"},   {34, "TQ1_0"},   {35, "TQ2_0"},
    {36, "IQ4_NL_4_4"}, {37, "IQ4_NL_4_8"}, {38, "IQ4_NL_8_8"}, {39, "MXFP4"},   {40, "NVFP4"}};

const Named& EntryOf(ElementType type) { return kEntries[static_cast<int>(type)]; }

float Bfloat16(const std::uint8_t* at) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(Load<std::uint16_t>(at)) << 16);
}

template <typename Block>
void DecodeBlocks(ElementType type, const std::uint8_t* bytes, std::size_t count, float* out,
                  Block decode) {
  const ElementFormat& format = FormatOf(type);
  for (std::size_t i = 0; i < count; i += format.block_elements) {
    decode(bytes, out + i);
    bytes += format.block_bytes;
  }
}

}  // namespace

const ElementFormat& FormatOf(ElementType type) { return EntryOf(type).format; }

std::optional<ElementType> ElementTypeFromName(std::string_view name) {
  for (std::size_t i = 0; i < std::size(kEntries); ++i)
    if (kEntries[i].format.block_elements == 1 && name == kEntries[i].format.name)
      return static_cast<ElementType>(i);
  return std::nullopt;
}

std::optional<ElementType> ElementTypeFromGguf(std::uint32_t number) {
  for (std::size_t i = 0; i < std::size(kEntries); ++i)
    if (kEntries[i].gguf != kNoNumber && number == static_cast<std::uint32_t>(kEntries[i].gguf))
      return static_cast<ElementType>(i);
  return std::nullopt;
}

std::string NameOfGgufType(std::uint32_t number) {
  if (const auto type = ElementTypeFromGguf(number)) return FormatOf(*type).name;
  for (const auto& [unread, name] : kUnreadNames)
    if (unread == number) return name;
  return fmt::format("number {}", number);
}

void DecodeElements(ElementType type, const std::uint8_t* bytes, std::size_t count, float* out) {
  const Named& entry = EntryOf(type);
  const ElementFormat& format = entry.format;
  PV_CHECK(format.real && count % format.block_elements == 0, "{}: {} elements in blocks of {}",
           format.name, count, format.block_elements);
  if (entry.block) return DecodeBlocks(type, bytes, count, out, entry.block);
  switch (type) {
    case ElementType::kF32:
      std::memcpy(out, bytes, count * sizeof(float));
      return;
    case ElementType::kF16:
      return DecodeBlocks(type, bytes, count, out,
                          [](const std::uint8_t* at, float* to) { *to = LoadHalf(at); });
    case ElementType::kBF16:
      return DecodeBlocks(type, bytes, count, out,
                          [](const std::uint8_t* at, float* to) { *to = Bfloat16(at); });
    case ElementType::kF64:
      return DecodeBlocks(type, bytes, count, out, [](const std::uint8_t* at, float* to) {
        *to = static_cast<float>(Load<double>(at));
      });
    default:
      PV_CHECK(false, "{} is no real type", format.name);
  }
}

float HalfToFloat(std::uint16_t bits) {
  const std::uint32_t shifted = static_cast<std::uint32_t>(bits & 0x7fff) << 13;
  const std::uint32_t sign = static_cast<std::uint32_t>(bits & 0x8000) << 16;
  // Infinity and NaN keep their exponent; all others, subnormals too, move by 127 - 15.
  const std::uint32_t size =
      (bits & 0x7c00) == 0x7c00
          ? shifted | 0x7f800000u
          : std::bit_cast<std::uint32_t>(std::bit_cast<float>(shifted) * 0x1p112f);
  return std::bit_cast<float>(size | sign);
}

std::uint16_t HalfFromDouble(double x) {
  const std::uint16_t sign = std::signbit(x) ? 0x8000 : 0;
  const double size = std::abs(x);
  if (size == 0) return sign;
  if (size >= 65520) return sign | 0x7c00;  // half a step above the largest; infinity too
  int exponent = std::max(std::ilogb(size), -14);
  double mantissa = std::nearbyint(std::ldexp(size, 10 - exponent));
  if (mantissa >= 2048) mantissa /= 2, ++exponent;
  const auto bits = static_cast<std::uint16_t>(mantissa);
  return sign |
         (bits < 1024 ? bits : static_cast<std::uint16_t>(bits - 1024 + ((exponent + 15) << 10)));
}

}  // namespace polyveil::model
