#include "fuzz/targets.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "approx/chebyshev.h"
#include "ckks/client/encryptor.h"
#include "ckks/encoder.h"
#include "ckks/seeded.h"
#include "model/choice.h"
#include "model/client_config.h"
#include "model/client_files.h"
#include "serve/protocol.h"
#include "wire/ciphertext_format.h"
#include "wire/client/key_writer.h"
#include "wire/client/secret_key_file.h"
#include "wire/json_fields.h"
#include "wire/key_stream.h"
#include "wire/parameters_json.h"

namespace polyveil::testing {
namespace {

using wire::Bytes;
using wire::ByteView;

bool ParseClientManifestTarget(ByteView bytes) {
  const auto manifest =
      model::ClientManifest::Parse({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  if (!manifest.ok()) return false;
  // What was accepted reads back as itself.
  const auto again = model::ClientManifest::Parse(manifest->Format());
  PV_CHECK(again.ok() && again->files == manifest->files, "a manifest changed");
  return true;
}

model::ClientConfig SomeClientConfig() {
  model::ClientConfig config;
  config.name = "fuzz";
  config.width = 2;
  config.vocabulary = 300;
  config.context = 8;
  config.ends = {256};
  config.final_norm = model::ClientNorm{true, 1e-5};
  config.tensors[model::kEmbedName] = {model::ElementType::kF16, {300, 2}};
  return config;
}

bool ParseClientConfigTarget(ByteView bytes) {
  const auto config =
      model::ParseClientConfig({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  if (!config.ok()) return false;
  const std::string text = model::FormatClientConfig(*config);
  const auto again = model::ParseClientConfig(text);
  PV_CHECK(again.ok() && model::FormatClientConfig(*again) == text, "client.json changed");
  return true;
}

bool ParseChoiceTarget(ByteView bytes) {
  const auto forms =
      model::ParseChoiceForms({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  if (!forms.ok()) return false;
  const std::string text = model::FormatChoiceForms(*forms);
  const auto again = model::ParseChoiceForms(text);
  PV_CHECK(again.ok() && model::FormatChoiceForms(*again) == text, "choice.json changed");
  return true;
}

std::string SomeChoice() {
  const auto root = [](double v) { return 1 / std::sqrt(v); };
  model::ChoiceForms forms;
  forms.norm = forms.deviation = approx::Interpolate(root, 0.5, 2, 3);
  forms.rounds = {forms.norm, forms.norm};
  forms.logit_bound = 10;
  forms.low = forms.high = 9;
  forms.tables = std::string(64, 'a');
  return model::FormatChoiceForms(forms);
}

// What the targets' valid inputs are made of.
struct World {
  ckks::ParametersPtr params =
      ckks::Parameters::Create(ckks::FindParameters("test10").value()).value();
  ckks::SecretKey key = ckks::SecretKey::FromSeed(params, Seed{1, 2, 3});
  wire::MessageBounds bounds;
  ckks::KeyRequest request;
  std::vector<wire::ManifestEntry> manifest;

  World() {
    bounds.binding = {params->digest(), HashBytes("fuzz", {}), wire::KeyIdOf(key)};
    bounds.position = 1;
    bounds.level = 2;
    bounds.scale = params->scale(2);
    request.AddRotation(3, params->slots(), 1);
    request.encapsulation = true;
    manifest = wire::ManifestOf(*params, request).value();
  }
};

const World& TheWorld() {
  static const World world;
  return world;
}

std::string_view Text(ByteView bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}
Bytes FromText(const std::string& text) { return Bytes(text.begin(), text.end()); }

// An accepted polynomial has its residues in range.
void RequireInRange(const ring::RnsPoly& poly, const ckks::Parameters& params) {
  for (size_t i = 0; i < poly.limbs(); ++i) {
    for (const u64 residue : poly.limb(i)) {
      if (residue >= params.q(static_cast<int>(i)).q) std::abort();
    }
  }
}

ckks::SeededCiphertext MakeToken() {
  const World& w = TheWorld();
  const std::vector<double> values(8, 0.25);
  const auto plain = ckks::Encoder(w.params).Encode(values, 2, w.bounds.scale).value();
  return ckks::Encryptor(w.key).Encrypt(plain);
}

bool ParseTokenTarget(ByteView bytes) {
  const World& w = TheWorld();
  const auto token = wire::ParseToken(*w.params, bytes, w.bounds);
  if (token.ok()) RequireInRange(token->c0, *w.params);
  return token.ok();
}

bool ParseResultTarget(ByteView bytes) {
  const World& w = TheWorld();
  const auto result = wire::ParseResult(*w.params, bytes, w.bounds);
  if (result.ok()) {
    for (const auto& part : result->parts) RequireInRange(part, *w.params);
  }
  return result.ok();
}

bool ParseManifestTarget(ByteView bytes) {
  wire::Binding binding;
  return wire::ReadManifest(*TheWorld().params, bytes, {}, &binding).ok();
}

bool ParseKeyTarget(ByteView bytes) {
  const World& w = TheWorld();
  wire::Binding binding{w.params->digest(), {}, wire::KeyIdOf(w.key)};
  return wire::ParseKey(*w.params, binding, 2, w.manifest[2], bytes).ok();
}

bool ParseStreamTarget(ByteView bytes) {
  auto reader = wire::KeyStreamReader::Create(TheWorld().params, TheWorld().request).value();
  return reader.Push(bytes).ok() && reader.complete();
}

bool ParseSecretTarget(ByteView bytes) { return wire::ParseSecretKey(bytes, std::nullopt).ok(); }
bool ParseSealedTarget(ByteView bytes) { return wire::ParseSecretKeyInfo(bytes).ok(); }

bool ParseSpecTarget(ByteView bytes) {
  const auto json = wire::ParseJson(Text(bytes), 1 << 16, "spec");
  return json.ok() && wire::SpecFromJson(*json).ok();
}

bool ParseInfoTarget(ByteView bytes) {
  const auto json = wire::ParseJson(Text(bytes), 1 << 16, "info");
  return json.ok() && serve::InfoFromJson(*json).ok();
}

bool ParseLatencyTarget(ByteView bytes) {
  const auto json = wire::ParseJson(Text(bytes), 1 << 16, "latency");
  return json.ok() && serve::LatencyFromJson(*json).ok();
}

bool ParseFramesTarget(ByteView bytes) {
  serve::FrameReader reader(1 << 20);
  std::vector<serve::Frame> frames;
  return reader.Push(bytes, frames).ok() && reader.empty();
}

bool ParseErrorTarget(ByteView bytes) {
  return !serve::ErrorFromReply(500, Text(bytes)).message.empty();
}

serve::ModelInfo MakeInfo() {
  serve::ModelInfo info;
  info.context = 8;
  info.d_model = 16;
  info.keys = TheWorld().request;
  info.key_stream_bytes = 5;
  info.chunk_bytes = 4096;
  info.threads = 2;
  return info;
}

std::vector<FuzzTarget> MakeTargets() {
  const World& w = TheWorld();
  const auto token = MakeToken();
  const auto expanded = ckks::Expand(*w.params, token).value();
  Bytes stream;
  const auto sink = [&](ByteView bytes) -> Status {
    stream.insert(stream.end(), bytes.begin(), bytes.end());
    return {};
  };
  PV_CHECK(wire::WriteKeyStream(w.key, w.request, sink).ok(), "key stream");
  const ByteView all(stream);
  const ByteView manifest = all.first(wire::ManifestBytes(w.manifest.size()));
  const ByteView record = all.last(w.manifest[2].record_bytes);
  const auto secret = wire::FormatSecretKey(w.key, std::nullopt).value();
  const auto sealed = wire::FormatSecretKey(w.key, "p", {1, 8192}).value();
  runtime::LatencyTable latency;
  latency.AddComponent("norm", 1);
  latency.FinishStep(2);
  Bytes frames = serve::FormatFrame(serve::FrameType::kProgress, std::string_view("{}"));
  const Bytes error =
      serve::FormatFrame(serve::FrameType::kError, std::string_view("{\"error\":1}"));
  frames.insert(frames.end(), error.begin(), error.end());
  return {
      {"token", wire::FormatToken(*w.params, w.bounds.binding, 1, token), ParseTokenTarget, true},
      {"result", wire::FormatResult(*w.params, w.bounds.binding, 1, expanded), ParseResultTarget,
       true},
      {"manifest", Bytes(manifest.begin(), manifest.end()), ParseManifestTarget, true},
      {"key", Bytes(record.begin(), record.end()), ParseKeyTarget, true},
      {"key stream", stream, ParseStreamTarget, true},
      {"secret key", Bytes(secret.begin(), secret.end()), ParseSecretTarget, true},
      {"sealed secret key", Bytes(sealed.begin(), sealed.end()), ParseSealedTarget, true},
      {"parameters", FromText(wire::SpecToJson(w.params->spec()).dump()), ParseSpecTarget, false},
      {"model information", FromText(serve::InfoToJson(MakeInfo()).dump()), ParseInfoTarget, false},
      {"client's manifest",
       FromText(model::ClientManifest{{{model::kClientConfigName, 3, std::string(64, 'a')},
                                       {"embed", 5, std::string(64, 'b')}}}
                    .Format()),
       ParseClientManifestTarget, false},
      {"client.json", FromText(model::FormatClientConfig(SomeClientConfig())),
       ParseClientConfigTarget, false},
      {"latency", FromText(serve::LatencyToJson(latency).dump()), ParseLatencyTarget, false},
      {"frames", frames, ParseFramesTarget, false},
      {"error reply", FromText(serve::ErrorToJson({ErrorCode::kIo, "x"})), ParseErrorTarget, false},
      {"choice.json", FromText(SomeChoice()), ParseChoiceTarget, false},
  };
}

}  // namespace

const std::vector<FuzzTarget>& FuzzTargets() {
  static const std::vector<FuzzTarget> targets = MakeTargets();
  return targets;
}

void Reseal(Bytes& bytes) {
  if (bytes.size() < wire::kHeaderBytes) return;
  const ByteView view(bytes);
  const Digest checksum = Hasher("polyveil/container/1")
                              .Update(view.first(wire::kHeaderBytes - 32))
                              .Update(view.subspan(wire::kHeaderBytes))
                              .Final();
  std::copy(checksum.begin(), checksum.end(), bytes.begin() + wire::kHeaderBytes - 32);
}

}  // namespace polyveil::testing
