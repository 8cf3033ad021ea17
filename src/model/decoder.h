// The server's half of a decoder: blocks whose every function is a polynomial.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "model/block.h"
#include "model/certificate.h"
#include "model/encoder_head.h"

namespace polyveil::model {

struct Decoder {
  std::string name;
  // Lower-case hex SHA-256 of what the blocks compute: a client and a server compare it.
  std::string digest;
  std::vector<Block> blocks;  // of one shape, behind one prefix
  int context = 1;            // tokens that a text may have, the prefix not among them
  double margin = 1;          // of the bounds below and the blocks'
  double residual_bound = 0;  // where a block has no bound of its own; with its margin
  std::optional<Certificate> certificate = {};
  // Of an encoder: its programs end with this head's logits. Null: with what its last norm reads.
  std::shared_ptr<const EncoderHead> head = {};
  // Of the model's files, which steps read through a mapping: resident while memory allows.
  std::uint64_t mapped_bytes = 0;

  int width() const { return blocks.front().shape.d_model; }
  int prefix() const { return blocks.front().prefix(); }  // constant tokens before a text
  // Else an encoder: it reads whole texts and has no caches.
  bool causal() const { return blocks.front().shape.causal; }
};

// A bundle's blocks over its weights, which stay in memory once however many programs and
// references read them.
Decoder DecoderOfBundle(BodyBundle bundle, std::string name = {});

}  // namespace polyveil::model
