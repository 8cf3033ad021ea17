#include "model/quantized_blocks.h"

#include "model/element_type.h"
#include "model/load.h"

namespace polyveil::model {
namespace {

// 16 bytes: the low nibbles are elements 0..15, the high ones 16..31. map(nibble, element).
template <typename Map>
void DecodeNibbles(const std::uint8_t* nibbles, float* out, Map map) {
  for (int i = 0; i < 16; ++i) {
    out[i] = map(nibbles[i] & 15, i);
    out[i + 16] = map(nibbles[i] >> 4, i + 16);
  }
}

// The same with a fifth bit: bit i of four bytes belongs to element i.
template <typename Map>
void DecodeFiveBits(const std::uint8_t* high, const std::uint8_t* nibbles, float* out, Map map) {
  const auto bits = Load<std::uint32_t>(high);
  DecodeNibbles(nibbles, out, [bits, map](int q, int i) {
    return map(q | static_cast<int>(bits >> i & 1) << 4);
  });
}

struct ScaleMin {
  int scale, min;
};

// Eight pairs of six bits in twelve bytes.
ScaleMin UnpackScaleMin(const std::uint8_t* packed, int j) {
  if (j < 4) return {packed[j] & 63, packed[j + 4] & 63};
  return {(packed[j + 4] & 15) | (packed[j - 4] >> 6) << 4, (packed[j + 4] >> 4) | (packed[j] >> 6)
                                                                                       << 4};
}

// d, dmin (halves), twelve bytes of scales and minima for eight parts of 32 elements; `quant(part,
// i)` is element i of the part.
template <typename Quant>
void DecodeScaledMinima(const std::uint8_t* block, float* out, Quant quant) {
  const float d = LoadHalf(block), dmin = LoadHalf(block + 2);
  for (int part = 0; part < 8; ++part) {
    const ScaleMin packed = UnpackScaleMin(block + 4, part);
    const float scale = d * static_cast<float>(packed.scale);
    const float min = dmin * static_cast<float>(packed.min);
    for (int i = 0; i < 32; ++i)
      out[part * 32 + i] = scale * static_cast<float>(quant(part, i)) - min;
  }
}

// Element 64 g + 32 h + i is nibble h of byte 32 g + i.
int NibbleOfPart(const std::uint8_t* nibbles, int part, int i) {
  const int byte = nibbles[part / 2 * 32 + i];
  return part % 2 ? byte >> 4 : byte & 15;
}

// Pairs of bits of 64 bytes: element 128 h + 32 p + i is pair p of byte 32 h + i.
int PairOf(const std::uint8_t* pairs, int element) {
  return pairs[element / 128 * 32 + element % 32] >> (element / 32 % 4 * 2) & 3;
}

// Sixteen values of six bits in twelve bytes: nibbles of the first eight, pairs of the last four.
int UnpackSixBits(const std::uint8_t* packed, int j) {
  const int low = j < 8 ? packed[j] & 15 : packed[j - 8] >> 4;
  return low | (packed[8 + j % 4] >> (j / 4 * 2) & 3) << 4;
}

// The levels of the four-bit code that is no even grid.
constexpr float kIq4Levels[] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                1,    13,   25,  38,  53,  69,  89,  113};

}  // namespace

float LoadHalf(const std::uint8_t* at) { return HalfToFloat(Load<std::uint16_t>(at)); }

void DecodeQ4_0(const std::uint8_t* block, float* out) {
  const float d = LoadHalf(block);
  DecodeNibbles(block + 2, out, [d](int q, int) { return static_cast<float>(q - 8) * d; });
}

void DecodeQ4_1(const std::uint8_t* block, float* out) {
  const float d = LoadHalf(block), m = LoadHalf(block + 2);
  DecodeNibbles(block + 4, out, [d, m](int q, int) { return static_cast<float>(q) * d + m; });
}

void DecodeQ5_0(const std::uint8_t* block, float* out) {
  const float d = LoadHalf(block);
  DecodeFiveBits(block + 2, block + 6, out, [d](int q) { return static_cast<float>(q - 16) * d; });
}

void DecodeQ5_1(const std::uint8_t* block, float* out) {
  const float d = LoadHalf(block), m = LoadHalf(block + 2);
  DecodeFiveBits(block + 4, block + 8, out,
                 [d, m](int q) { return static_cast<float>(q) * d + m; });
}

void DecodeQ8_0(const std::uint8_t* block, float* out) {
  const float d = LoadHalf(block);
  for (int i = 0; i < 32; ++i)
    out[i] = static_cast<float>(static_cast<std::int8_t>(block[2 + i])) * d;
}

// 16 bytes with a scale (low nibble) and a minimum (high) for 16 elements each, 64 of pairs, d and
// dmin (halves).
void DecodeQ2_K(const std::uint8_t* block, float* out) {
  const float d = LoadHalf(block + 80), dmin = LoadHalf(block + 82);
  for (int part = 0; part < 16; ++part) {
    const float scale = d * static_cast<float>(block[part] & 15);
    const float min = dmin * static_cast<float>(block[part] >> 4);
    for (int i = part * 16; i < part * 16 + 16; ++i)
      out[i] = scale * static_cast<float>(PairOf(block + 16, i)) - min;
  }
}

// 32 bytes of high bits (bit e / 32 of byte e % 32; unset takes 4 away), 64 of pairs, 12 of scales,
// d (half).
void DecodeQ3_K(const std::uint8_t* block, float* out) {
  const float d = LoadHalf(block + 108);
  for (int part = 0; part < 16; ++part) {
    const float scale = d * static_cast<float>(UnpackSixBits(block + 96, part) - 32);
    for (int i = part * 16; i < part * 16 + 16; ++i) {
      const int high = block[i % 32] >> (i / 32) & 1;
      out[i] = scale * static_cast<float>(PairOf(block + 32, i) - (high ? 0 : 4));
    }
  }
}

void DecodeQ4_K(const std::uint8_t* block, float* out) {
  DecodeScaledMinima(block, out,
                     [=](int part, int i) { return NibbleOfPart(block + 16, part, i); });
}

// As Q4_K, with 32 bytes before the nibbles: bit p of byte i is the fifth bit of element 32 p + i.
void DecodeQ5_K(const std::uint8_t* block, float* out) {
  DecodeScaledMinima(block, out, [=](int part, int i) {
    return NibbleOfPart(block + 48, part, i) | (block[16 + i] >> part & 1) << 4;
  });
}

// 128 bytes of low nibbles, 64 of high pairs, 16 signed scales, d (half); two halves of 128
// elements, in each element 32 p + i has pair p of high byte i.
void DecodeQ6_K(const std::uint8_t* block, float* out) {
  const float d = LoadHalf(block + 208);
  for (int i = 0; i < 256; ++i) {
    const int half = i / 128, part = i / 32 % 4;
    const int byte = block[half * 64 + part % 2 * 32 + i % 32];
    const int nibble = part < 2 ? byte & 15 : byte >> 4;
    const auto scale = static_cast<std::int8_t>(block[192 + i / 16]);
    out[i] = d * static_cast<float>(scale) *
             static_cast<float>((nibble | PairOf(block + 128, i) << 4) - 32);
  }
}

// d (float32), 256 signed bytes; the sums behind them serve products only.
void DecodeQ8_K(const std::uint8_t* block, float* out) {
  const auto d = Load<float>(block);
  for (int i = 0; i < 256; ++i)
    out[i] = d * static_cast<float>(static_cast<std::int8_t>(block[4 + i]));
}

void DecodeIq4Nl(const std::uint8_t* block, float* out) {
  const float d = LoadHalf(block);
  DecodeNibbles(block + 2, out, [d](int q, int) { return d * kIq4Levels[q]; });
}

// d (half), the eight scales' high pairs (16 bits), their low nibbles (4 bytes), 8 x 16 bytes.
void DecodeIq4Xs(const std::uint8_t* block, float* out) {
  const float d = LoadHalf(block);
  const int high = Load<std::uint16_t>(block + 2);
  for (int part = 0; part < 8; ++part) {
    const int low = block[4 + part / 2] >> (part % 2 * 4) & 15;
    const float scale = d * static_cast<float>((low | (high >> (2 * part) & 3) << 4) - 32);
    DecodeNibbles(block + 8 + part * 16, out + part * 32,
                  [scale](int q, int) { return scale * kIq4Levels[q]; });
  }
}

}  // namespace polyveil::model
