// A text whose client has left: its encrypted prompt lies on the disk, the server chooses the
// tokens behind it (docs/decisions/0027-the-server-chooses.md), and whoever has the key collects
// them later. Every step is on the disk before the next one begins, so that a restart goes on.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "compile/compiled_decoder.h"
#include "runtime/choice_session.h"
#include "serve/server/admission.h"
#include "serve/server/key_set.h"
#include "serve/server/state_folder.h"
#include "wire/ciphertext_format.h"

namespace polyveil::serve {

// What texts run with; all of it outlives them.
struct SubmissionParts {
  std::shared_ptr<const compile::CompiledDecoder> model;
  StateFolder& folder;
  ComputeQueue& queue;
  Admission& admission;
  const std::atomic<bool>& ending;                            // no step begins any more
  std::function<void(const runtime::LatencyTable&)> on_step;  // from the text's thread
};

enum class SubmissionPhase { kReceiving, kRunning, kDone, kFailed };
const char* SubmissionPhaseName(SubmissionPhase phase);

struct SubmissionReport {
  SubmissionPhase phase = SubmissionPhase::kReceiving;
  int received = 0;       // messages of the prompt
  int position = 0;       // tokens that were read, public ones counted
  int chosen = 0;         // tokens
  double done = 0;        // of the step under way
  std::string operation;  // of it
  std::string waiting;    // why nothing runs; empty: something does, or is over
  Error error;            // of kFailed
};

class Submission {
 public:
  // keys: null for a text that is over. known: its public context, or null.
  Submission(StoredSubmission stored, const SubmissionParts& parts, std::shared_ptr<KeySet> keys,
             std::shared_ptr<const model::PublicContext> known, Charge place);
  ~Submission();  // the step under way is cancelled; what is on the disk goes on later

  // Reads what the folder has of it, and runs it where its prompt is complete. What cannot go on
  // has failed: the files say why, or `missing`, the reason why there are no keys or no context.
  void Restore(const Status& missing);
  // Message `index` of the prompt, bits of its tokens (compile/choice_layout.h); the last one that
  // was missing starts the text. One that is there already is accepted again and ignored. Errors:
  // kOutOfRange, kMismatch (an index that is not next, or the message's fields), kCorrupt, kIo.
  Status Receive(u64 index, wire::ByteView body);

  const StoredSubmission& stored() const { return stored_; }
  int messages() const { return layout().Messages(first_, stored_.prompt_tokens); }  // of a prompt
  SubmissionReport Report() const;
  // Two results, bits and residuals, one behind the other. Errors: kNotFound.
  Result<wire::Bytes> Page(u64 index) const;
  bool running() const;
  // Whether nobody loses by its end: it has failed, or its last page was read since it was done.
  bool gives_way() const;
  // Of one on the disk: whether it needs its keys no more.
  static bool IsOver(const StateFolder& folder, const std::string& handle);
  // Whoever holds it last removes its folder.
  void Remove();
  LastUse last_use;

 private:
  // From the first step on.
  struct Text {
    std::shared_ptr<KeySet> keys;  // pinned
    runtime::DecoderSession decoder;
    runtime::ChoiceSession choice;
    ckks::Ciphertext next;  // the next step's input, behind the prompt
  };
  int FirstChosen() const { return first_ + stored_.prompt_tokens - 1; }
  int chosen(int position) const { return std::max(0, position - FirstChosen()); }
  const compile::ChoiceLayout& layout() const { return parts_.model->choice()->layout(); }
  static std::string MessageName(int index) { return std::to_string(index) + ".prompt"; }
  wire::MessageBounds BoundsOf(int message) const;
  wire::Binding BindingOf() const;
  Result<ckks::Ciphertext> PromptToken(int position, const runtime::StepOptions& options) const;
  Result<std::vector<runtime::ChoicePage>> PagesOf(std::vector<ckks::Ciphertext> values,
                                                   int position) const;
  Result<std::vector<ckks::Ciphertext>> ReadValues(const wire::Bytes& bytes, int position) const;
  Status RestoreEnd();
  Status RestoreText();
  void Start();
  void Run();
  // One step, and the choice behind it, on the queue's thread.
  Status Advance(const std::atomic<bool>& cancel);
  Status Compute();
  Status Save();
  Status Finish();
  void Fail(const Error& error);
  void SetFailed(const Error& error);
  // Sleeps a little; false when the server ends.
  bool Pause(const char* why, double seconds);

  const StoredSubmission stored_;
  const SubmissionParts parts_;
  const std::string folder_;
  const int first_;  // position of the first encrypted token
  const Charge place_;
  std::optional<Text> text_;  // of the running thread, once there is one
  std::atomic<bool> removed_{false}, stopping_{false};
  mutable std::mutex mutex_;  // guards what follows
  SubmissionReport report_;
  std::vector<runtime::ChoicePage> pages_;
  mutable bool collected_ = false;
  std::unique_ptr<const StoredPart> part_;
  std::thread thread_;
};

}  // namespace polyveil::serve
