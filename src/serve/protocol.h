// What client and server say to each other over HTTP; docs/formats/http.md.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <vector>

#include "base/digest.h"
#include "base/memory_report.h"
#include "base/result.h"
#include "ckks/key_request.h"
#include "ckks/parameters.h"
#include "compile/compiled_program.h"
#include "compile/layout.h"
#include "runtime/latency_table.h"
#include "runtime/result_noise.h"
#include "wire/bytes.h"

namespace polyveil::serve {

inline constexpr u64 kMaxChunkBytes = u64{64} << 20;
inline constexpr size_t kMaxJsonBytes = size_t{4} << 20;
inline constexpr size_t kMaxRequestJsonBytes = 4096;  // beside a public context
// A header of an upload's chunk: BLAKE2b-256 of its bytes (ChunkChecksum), hexadecimal.
inline constexpr char kChecksumHeader[] = "X-Polyveil-Checksum";
// Names the keys or the session that a request is about: who knows such a name may use it, so it
// stands in no path, which logs keep.
inline constexpr char kHandleHeader[] = "X-Polyveil-Handle";
// The digest of the client's keys, in every request since their upload begins. The server reads it
// nowhere: a balancer in front of several servers sends equal ones to the same server.
inline constexpr char kKeyDigestHeader[] = "X-Polyveil-Key-Digest";
inline constexpr char kStreamType[] = "application/x-polyveil-frames";
inline constexpr char kBinaryType[] = "application/octet-stream";
inline constexpr char kJsonType[] = "application/json";

// A message's position where it is a prompt at once: its number of tokens, and this bit; of the
// ciphertexts behind the first one (compile::PackTokens) their index too.
inline constexpr u32 kPromptPosition = u32{1} << 31;
inline constexpr u32 kPromptCiphertext = u32{1} << 24;
inline constexpr u32 PromptTokensOf(u32 position) { return position % kPromptCiphertext; }

// Prompts of up to so many tokens at once: levels of what goes up and comes down.
struct PromptInfo {
  int tokens = 0;  // with prompt_blocks, as many ciphertexts as hold them (compile::TokenLayout)
  int input_level = 0, output_level = 0;
  double seconds = 0;  // planned
};

// Of a server that chooses tokens (docs/decisions/0027-the-server-chooses.md).
struct ChoiceInfo {
  int vocabulary = 0;         // tokens that it chooses from; 0: it chooses none
  double temperature = 0;     // up to which it draws
  double seconds = 0;         // planned, of a choice
  int level = 0;              // of a prompt's message
  double prompt_seconds = 0;  // planned, of one of its tokens before the step
};

// The answer to GET /v1/model. A client takes names and digests from it, never parameters: it
// builds those of its own that have the name, and compares digests.
struct ModelInfo {
  std::string name;
  std::string tensors_sha256;
  std::string program_digest;  // hexadecimal
  int context = 0;
  int texts = 1;          // that a session decodes together, as compile::PackTexts lays them out
  int public_tokens = 0;  // that a public context may have; 0: the server takes none
  int d_model = 0;
  double input_unit = 1, result_unit = 1;  // compile::ResidualUnits
  runtime::ResultBounds result;            // what a client's guard asks of a result
  std::string parameters;                  // name of the set
  std::string parameters_digest;
  // DescribeParameters: a server sends them, a client computes its own.
  std::string security;
  bool insecure = false;
  double log_qp = 0;
  int max_log_qp = 0;
  int input_level = 0, output_level = 0;
  // Of prompts at once, as compile::PackTokens lays them out: slots of a row, or how many blocks.
  int prompt_row_slots = 0;
  bool prompt_blocks = false;
  std::vector<PromptInfo> prompts;  // the shortest first; empty: token by token only
  bool encoder = false;             // reads whole texts, several at once, by these alone
  int labels = 0;  // of an encoder whose results are a classifier's logits; 0: residuals
  ChoiceInfo choice;
  ckks::KeyRequest keys;
  u64 key_stream_bytes = 0;
  u64 chunk_bytes = 0;
  // How the server keeps keys: ckks::KeyStorageName, bytes of the next client's, and the seconds
  // that this adds to a token.
  std::string key_storage;
  u64 key_set_bytes = 0;
  double key_expansion_seconds = 0;
  compile::Estimate estimate;
  int threads = 0;
  std::string backend;
  std::string version;

  // Peak with one client's keys as they are kept here.
  // With the keys as the server keeps them.
  double seconds_per_token() const { return estimate.seconds_per_token + key_expansion_seconds; }
  u64 server_bytes() const {
    return estimate.server_bytes - estimate.key_bytes_memory + key_set_bytes;
  }
};

// The program that reads a prompt's first tokens at once, as many as it takes: the shortest that
// holds them all, or the longest there is. Null where one by one is as fast by the plan.
const PromptInfo* PromptProgram(const ModelInfo& info, int tokens);

// Where the tokens of one of its programs stand.
compile::TokenLayout LayoutOf(const ModelInfo& info, const PromptInfo& program, int slots);

// Name, digest and security from the parameters themselves.
void DescribeParameters(const ckks::Parameters& params, ModelInfo& info);

nlohmann::json InfoToJson(const ModelInfo& info);
// Bounds every number and text. What a server says of security is not read: a client that has the
// parameters describes them itself. Errors: kCorrupt, kOutOfRange; the field is named.
Result<ModelInfo> InfoFromJson(const nlohmann::json& json);

// A text of the other side, as it may be shown or written: Printable. Every text that a client
// takes from a reply comes through here. Errors: kCorrupt, kOutOfRange (above kMaxPeerTextBytes).
inline constexpr size_t kMaxPeerTextBytes = 4096;
Result<std::string> PeerText(const nlohmann::json& object, const char* name, size_t max_bytes);

nlohmann::json EstimateToJson(const compile::Estimate& estimate);
// [{"name","bytes"}] in the report's order. Errors: kCorrupt, kOutOfRange; the field is named.
nlohmann::json MemoryToJson(const MemoryReport& report);
Result<std::vector<MemoryReport::Entry>> MemoryFromJson(const nlohmann::json& json);

nlohmann::json LatencyToJson(const runtime::LatencyTable& table);
Result<runtime::LatencyTable> LatencyFromJson(const nlohmann::json& json);

Digest ChunkChecksum(wire::ByteView bytes);

// Names a public context: of a model (ModelInfo::tensors_sha256), these tokens.
Digest PublicDigest(std::string_view tensors_sha256, std::span<const std::int32_t> tokens);
// Bytes of a session's request beside kMaxRequestJsonBytes for each token of a public context.
inline constexpr size_t kTokenJsonBytes = 12;

// An error as the body of a reply, and the reply's HTTP status.
std::string ErrorToJson(const Error& error);
int HttpStatusOf(ErrorCode code);
// The error that a reply's body tells; for bodies that tell none, one that names the status.
Error ErrorFromReply(int status, std::string_view body);

// A step's reply is a stream of frames: type (1 byte), length (4 bytes, little endian), payload.
enum class FrameType : std::uint8_t {
  kProgress = 1,  // {"done":0.31,"operation":"...","queued":0}
  kTiming = 2,    // {"latency":{...},"peak_rss_bytes":...}; before the result
  kResult = 3,    // a result container, one for each ciphertext that came; the last frames
  kError = 4,     // as an error's body; the last frame
};
inline constexpr size_t kFrameHeaderBytes = 5;
wire::Bytes FormatFrame(FrameType type, wire::ByteView payload);
wire::Bytes FormatFrame(FrameType type, std::string_view payload);

struct Frame {
  FrameType type;
  wire::Bytes payload;
};

// Cuts frames out of a stream of pieces.
class FrameReader {
 public:
  explicit FrameReader(u64 max_payload_bytes) : max_payload_bytes_(max_payload_bytes) {}
  // Appends the finished frames. Errors: kCorrupt (type), kOutOfRange (length).
  Status Push(wire::ByteView bytes, std::vector<Frame>& frames);
  bool empty() const { return pending_.empty(); }

 private:
  u64 max_payload_bytes_;
  wire::Bytes pending_;
};

}  // namespace polyveil::serve
