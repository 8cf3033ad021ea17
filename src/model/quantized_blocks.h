// Halves and ggml's quantised blocks, one at a time; internal to element_type.cc.
#pragma once

#include <cstdint>

namespace polyveil::model {

float LoadHalf(const std::uint8_t* at);

// Widens one block to float32: 32 elements, or 256 for the names that end in _K or _XS. Equal to
// ggml's reference dequantisation bit for bit: formats after ggml-quants (MIT), written anew.
void DecodeQ4_0(const std::uint8_t* block, float* out);
void DecodeQ4_1(const std::uint8_t* block, float* out);
void DecodeQ5_0(const std::uint8_t* block, float* out);
void DecodeQ5_1(const std::uint8_t* block, float* out);
void DecodeQ8_0(const std::uint8_t* block, float* out);
void DecodeQ2_K(const std::uint8_t* block, float* out);
void DecodeQ3_K(const std::uint8_t* block, float* out);
void DecodeQ4_K(const std::uint8_t* block, float* out);
void DecodeQ5_K(const std::uint8_t* block, float* out);
void DecodeQ6_K(const std::uint8_t* block, float* out);
void DecodeQ8_K(const std::uint8_t* block, float* out);
void DecodeIq4Nl(const std::uint8_t* block, float* out);
void DecodeIq4Xs(const std::uint8_t* block, float* out);

}  // namespace polyveil::model
