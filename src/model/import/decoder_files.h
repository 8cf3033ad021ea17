// A decoder from its files.
#pragma once

#include <memory>
#include <string>

#include "model/decoder.h"

namespace polyveil::model {

struct Checkpoint;

struct DecoderOptions {
  // Tokens that a text may have behind the prefix. 0: forms.context where the forms say one, else
  // kUsualContext, and never more than the architecture has.
  int context = 0;
  std::string adapter{};  // its folder, of a released model (formats/adapter.h); empty: none
  bool head = false;      // an encoder's classification head too (Decoder::head)

  // The adapter's name where there is one, else the path's.
  std::string NameOf(const std::string& path) const;
};
inline constexpr int kUsualContext = 128;

// The server's half of a model: a bundle's folder (model.json), a converted folder, or a *.gguf
// file (or the folder of one) and the forms.json that names it, or an adapter's folder. Of a
// released model, weights stay mapped and are decoded by layer, an adapter's update with them, when
// they are asked for; the prefix's keys and values are computed here. digest: SHA-256 over the
// forms, the blocks' shape, every tensor and the adapter's file, the same on every machine. Cost:
// reads every byte of the weights once; with a prefix, decodes every layer once. Errors: those of
// LoadCheckpoint and MakeBlock; kInvalidArgument for a model whose attention is still softmax, or
// whose other functions are no polynomials yet (the message names the command that makes it
// polynomial); kMismatch for forms of other weights (both digests); kOutOfRange for a context above
// the architecture's; those of LoadBodyBundle and MakeHead, kNotFound for forms without a head's
// polynomial (the message names the command that adds it); kInvalidArgument for a context above the
// bundle's.
Result<std::shared_ptr<const Decoder>> LoadDecoder(const std::string& path,
                                                   const DecoderOptions& options = {});

// The same of a checkpoint at hand.
Result<std::shared_ptr<const Decoder>> DecoderOfCheckpoint(
    std::shared_ptr<const Checkpoint> checkpoint, const std::string& name,
    const DecoderOptions& options);

}  // namespace polyveil::model
