#include "support/mock_model.h"

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>

#include "ckks/seeded.h"
#include "support/random_model.h"
#include "wire/key_format.h"

namespace polyveil::testing {
namespace {

using nlohmann::json;
constexpr char kName[] = "00112233445566778899aabbccddeeff";

serve::ModelInfo MakeInfo(const ckks::Parameters& params) {
  serve::ModelInfo info;
  serve::DescribeParameters(params, info);
  info.name = "mock";
  info.tensors_sha256 = std::string(64, 'a');
  info.program_digest = std::string(64, 'b');
  info.context = 8;
  info.d_model = 16;
  // A random model's.
  const model::Decoder decoder = model::DecoderOfBundle(RandomModel({}, 1));
  const compile::ResidualUnits units = compile::MakeResidualUnits(decoder);
  info.input_unit = units.input;
  info.result_unit = units.result();
  info.result = runtime::BoundsOfResult(decoder, units);
  info.input_level = 3;
  info.output_level = 2;
  info.keys.AddRotation(1, params.slots(), 2);
  info.keys.AddRelinearization(2);
  info.key_stream_bytes = wire::StreamBytes(wire::ManifestOf(params, info.keys).value());
  info.chunk_bytes = 100000;
  info.key_storage = "auto";
  info.threads = 1;
  info.backend = "mock";
  info.version = "mock";
  return info;
}

u32 PositionOf(const std::string& token) {
  u32 position = 0;
  if (token.size() >= wire::kHeaderBytes + 4)
    std::memcpy(&position, token.data() + wire::kHeaderBytes, 4);
  return position;
}

}  // namespace

std::string AsText(const wire::Bytes& bytes) { return {bytes.begin(), bytes.end()}; }

MockModel::MockModel(std::uint64_t seed)
    : params_(ckks::Parameters::Create(ckks::FindParameters("test10").value()).value()),
      info_(MakeInfo(*params_)),
      random_(seed) {}

ckks::Ciphertext MockModel::RandomResult() {
  const std::lock_guard lock(mutex_);
  ckks::Ciphertext result;
  result.level = info_.output_level;
  result.scale = params_->scale(result.level);
  for (int part = 0; part < 2; ++part) {
    const auto limbs = static_cast<size_t>(params_->limbs(result.level));
    ring::RnsPoly poly(limbs, static_cast<size_t>(params_->n()));
    for (size_t i = 0; i < limbs; ++i) {
      for (u64& residue : poly.limb(i)) residue = random_() % params_->q(static_cast<int>(i)).q;
    }
    result.parts.push_back(std::move(poly));
  }
  return result;
}

ckks::Ciphertext MockModel::HonestResult(const MockRequest& request) {
  const auto token = [&]() -> polyveil::Result<ckks::SeededCiphertext> {
    const std::lock_guard lock(mutex_);
    const wire::Binding binding{params_->digest(), DigestFromHex(info_.program_digest).value(),
                                key_id_};
    const auto* begin = reinterpret_cast<const std::uint8_t*>(request.body.data());
    return wire::ParseToken(
        *params_, wire::ByteView(begin, request.body.size()),
        {binding, PositionOf(request.body), info_.input_level, params_->scale(info_.input_level)});
  }();
  auto expanded = token.ok() ? ckks::Expand(*params_, *token) : token.error();
  if (!expanded.ok()) return RandomResult();
  ckks::Ciphertext result;
  result.level = info_.output_level;
  result.scale = params_->scale(result.level);
  const auto limbs = static_cast<size_t>(params_->limbs(result.level));
  for (const ring::RnsPoly& part : expanded->parts) {
    ring::RnsPoly poly(limbs, static_cast<size_t>(params_->n()));
    for (size_t i = 0; i < limbs; ++i)
      std::copy(part.limb(i).begin(), part.limb(i).end(), poly.limb(i).begin());
    result.parts.push_back(std::move(poly));
  }
  return result;
}

wire::Bytes MockModel::Result(const MockRequest& request, const ckks::Ciphertext& result) const {
  const std::lock_guard lock(mutex_);
  const wire::Binding binding{params_->digest(), DigestFromHex(info_.program_digest).value(),
                              key_id_};
  return wire::FormatResult(*params_, binding, PositionOf(request.body), result);
}

wire::Bytes MockModel::StepBody(const MockRequest& request) {
  using serve::FormatFrame;
  using serve::FrameType;
  const std::string progress = json{{"done", 0.5}, {"operation", "norm"}, {"queued", 0}}.dump();
  runtime::LatencyTable latency;
  latency.AddComponent("norm", 0.1);
  latency.FinishStep(0.2);
  const std::string timing =
      json{{"latency", serve::LatencyToJson(latency)}, {"peak_rss_bytes", 1}}.dump();
  wire::Bytes body = FormatFrame(FrameType::kProgress, std::string_view(progress));
  for (const wire::Bytes& frame :
       {FormatFrame(FrameType::kTiming, std::string_view(timing)),
        FormatFrame(FrameType::kResult, wire::ByteView(Result(request, HonestResult(request))))}) {
    body.insert(body.end(), frame.begin(), frame.end());
  }
  return body;
}

std::string MockModel::Reply(const MockRequest& request) {
  const std::string line = request.Line();
  const auto is = [&](const char* method, const char* end) {
    return request.method == method && request.path.ends_with(end);
  };
  if (line == "GET /v1/model") return MockReply(200, serve::InfoToJson(info_).dump());
  if (line == "GET /v1/status") return MockReply(200, R"({"memory":[{"name":"keys","bytes":1}]})");
  if (line == "POST /v1/keys") {
    const auto body = json::parse(request.body, nullptr, false);
    const std::lock_guard lock(mutex_);
    if (body.is_object() && body.contains("key_id"))
      key_id_ = DigestFromHex(body["key_id"].get<std::string>()).value();
  }
  if (line == "POST /v1/keys") return MockReply(201, json{{"id", kName}}.dump());
  if (line == "POST /v1/sessions")
    return MockReply(201, json{{"id", kName}, {"context", info_.context}}.dump());
  if (is("POST", "/step"))
    return MockChunkedHeader() + MockChunk(AsText(StepBody(request))) + "0\r\n\r\n";
  if (is("GET", "/latency")) {
    return MockReply(200, json{{"latency", serve::LatencyToJson({})}}.dump());
  }
  return MockReply(200, R"({"ready":true,"removed":true,"next_chunk":1})");
}

}  // namespace polyveil::testing
