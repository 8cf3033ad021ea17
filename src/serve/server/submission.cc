#include "serve/server/submission.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "ckks/seeded.h"
#include "model/choice.h"
#include "serve/protocol.h"
#include "wire/json_fields.h"
#include "wire/session_state.h"

namespace polyveil::serve {
namespace {

constexpr double kDiskSeconds = 5, kQueueSeconds = 1, kQuotaSeconds = 30;
// What is left of a text that is over.
constexpr char kPagesPart[] = "pages", kErrorPart[] = "error.json";

void AddPages(const std::vector<runtime::ChoicePage>& pages,
              std::vector<ckks::Ciphertext>& values) {
  for (const runtime::ChoicePage& page : pages) {
    values.push_back(page.bits);
    values.push_back(page.residuals);
  }
}

}  // namespace

const char* SubmissionPhaseName(SubmissionPhase phase) {
  static constexpr const char* kNames[] = {"receiving", "running", "done", "failed"};
  return kNames[static_cast<int>(phase)];
}

Submission::Submission(StoredSubmission stored, const SubmissionParts& parts,
                       std::shared_ptr<KeySet> keys,
                       std::shared_ptr<const model::PublicContext> known, Charge place)
    : stored_(std::move(stored)),
      parts_(parts),
      folder_(parts.folder.SubmissionFolder(stored_.handle)),
      first_(static_cast<int>(stored_.public_tokens.size())),
      place_(std::move(place)),
      part_(std::make_unique<const StoredPart>(folder_, removed_)) {
  report_.position = first_;
  if (!keys) return;
  const auto pin = Pin(keys);
  const std::lock_guard lock(keys->mutex);
  text_.emplace(Text{pin,
                     runtime::DecoderSession(keys->engine, std::move(known)),
                     runtime::ChoiceSession(keys->choice),
                     {}});
}

Submission::~Submission() {
  stopping_ = true;
  if (thread_.joinable()) thread_.join();
}

wire::Binding Submission::BindingOf() const {
  return {parts_.model->params()->digest(), DigestFromHex(parts_.model->digest()).value(),
          DigestFromHex(stored_.key_id).value()};
}

wire::MessageBounds Submission::BoundsOf(int message) const {
  const int level = parts_.model->choice()->prompt()->input_level();
  return {BindingOf(), static_cast<u32>(layout().MessageBegin(first_, message)), level,
          parts_.model->params()->scale(level)};
}

Status Submission::Receive(u64 index, wire::ByteView body) {
  const std::lock_guard lock(mutex_);
  if (index >= static_cast<u64>(messages()))
    return MakeError(ErrorCode::kOutOfRange, "message {} of a prompt of {}", index, messages());
  if (report_.phase == SubmissionPhase::kFailed) return report_.error;
  if (index < static_cast<u64>(report_.received)) return {};
  if (index > static_cast<u64>(report_.received))
    return MakeError(ErrorCode::kMismatch, "message {} of the prompt: {} is next", index,
                     report_.received);
  const int number = static_cast<int>(index);
  PV_RETURN_IF_ERROR(wire::ParseToken(*parts_.model->params(), body, BoundsOf(number)));
  PV_RETURN_IF_ERROR(parts_.folder.WritePart(folder_, MessageName(number), body));
  if (report_.received + 1 == messages()) Start();
  ++report_.received;
  return {};
}

Result<ckks::Ciphertext> Submission::PromptToken(int position,
                                                 const runtime::StepOptions& options) const {
  const ckks::Parameters& params = *parts_.model->params();
  const int message = layout().MessageAt(first_, position);
  PV_ASSIGN_OR_RETURN(const auto bytes, parts_.folder.ReadPart(folder_, MessageName(message)));
  PV_ASSIGN_OR_RETURN(const auto seeded, wire::ParseToken(params, bytes, BoundsOf(message)));
  PV_ASSIGN_OR_RETURN(const auto whole, ckks::Expand(params, seeded));
  return text_->choice.Embed(whole, position, options);
}

SubmissionReport Submission::Report() const {
  const std::lock_guard lock(mutex_);
  return report_;
}

bool Submission::running() const {
  const std::lock_guard lock(mutex_);
  return report_.phase == SubmissionPhase::kRunning;
}

bool Submission::gives_way() const {
  const std::lock_guard lock(mutex_);
  return report_.phase == SubmissionPhase::kFailed || collected_;
}

bool Submission::IsOver(const StateFolder& folder, const std::string& handle) {
  const std::string path = folder.SubmissionFolder(handle);
  return folder.HasPart(path, kPagesPart) || folder.HasPart(path, kErrorPart);
}

void Submission::Remove() { removed_ = true; }

Result<wire::Bytes> Submission::Page(u64 index) const {
  const std::lock_guard lock(mutex_);
  if (index >= pages_.size())
    return MakeError(ErrorCode::kNotFound, "page {} of {}", index, pages_.size());
  if (report_.phase == SubmissionPhase::kDone && index + 1 == pages_.size()) collected_ = true;
  const runtime::ChoicePage& page = pages_[index];
  const ckks::Parameters& params = *parts_.model->params();
  const auto first = static_cast<u32>(page.first);
  wire::Bytes both = wire::FormatResult(params, BindingOf(), first, page.bits);
  const wire::Bytes more = wire::FormatResult(params, BindingOf(), first, page.residuals);
  both.insert(both.end(), more.begin(), more.end());
  return both;
}

// Requires mutex_.
void Submission::Start() {
  thread_ = std::thread([this] { Run(); });
  report_.phase = SubmissionPhase::kRunning;
}

bool Submission::Pause(const char* why, double seconds) {
  {
    const std::lock_guard lock(mutex_);
    report_.waiting = why;
  }
  for (double waited = 0; waited < seconds && !stopping_ && !removed_; waited += kPollSeconds)
    std::this_thread::sleep_for(std::chrono::duration<double>(kPollSeconds));
  const std::lock_guard lock(mutex_);
  report_.waiting.clear();
  return !stopping_ && !removed_;
}

void Submission::Run() {
  while (chosen(text_->decoder.position()) < stored_.new_tokens) {
    if (stopping_ || removed_) return;
    if (const Status status = Compute(); !status.ok()) {
      if (stopping_ || removed_) return;
      return Fail(status.error());
    }
    while (!Save().ok())
      if (!Pause("the disk takes no more", kDiskSeconds)) return;
  }
  while (!Finish().ok())
    if (!Pause("the disk takes no more", kDiskSeconds)) return;
}

// Errors: those of the step; kCancelled where the server ends.
Status Submission::Compute() {
  while (true) {
    if (text_->keys->removed)
      return MakeError(ErrorCode::kNotFound, "its keys '{}' were removed", stored_.keys);
    const auto member = parts_.admission.Named(stored_.account);
    if (!member)
      return MakeError(ErrorCode::kNotFound, "its account '{}' is no more", stored_.account);
    if (parts_.ending) {
      if (!Pause("the server ends", kQueueSeconds)) break;
      continue;
    }
    if (Admission::CheckSeconds(*member)) {
      if (!Pause("the account has used its seconds of this day", kQuotaSeconds)) break;
      continue;
    }
    const auto place = Charge::Try(member->usage, &Usage::steps, 1, member->account->quota.steps);
    if (!place) {
      if (!Pause("other steps of the account", kQueueSeconds)) break;
      continue;
    }
    const auto job =
        parts_.queue.Submit(text_->keys.get(), [&](const std::atomic<bool>& cancel) -> Status {
          const Timer timer;
          Status status = Advance(cancel);
          member->usage->AddSeconds(timer.Seconds());
          return status;
        });
    if (!job.ok()) {  // the queue is full
      if (!Pause("others' steps", kQueueSeconds)) break;
      continue;
    }
    while (!(*job)->WaitFor(kPollSeconds))
      if (stopping_ || removed_) (*job)->Cancel();
    return (*job)->status();
  }
  return MakeError(ErrorCode::kCancelled, "the server ends");
}

Status Submission::Advance(const std::atomic<bool>& cancel) {
  runtime::LatencyTable latency;
  runtime::StepOptions options;
  options.cancel = &cancel;
  options.latency = &latency;
  options.on_progress = [this](const runtime::StepProgress& progress) {
    const std::lock_guard lock(mutex_);
    report_.done = progress.done;
    report_.operation = *progress.operation;
  };
  const int position = text_->decoder.position();
  ckks::Ciphertext input = text_->next;
  if (position <= FirstChosen()) {
    PV_ASSIGN_OR_RETURN(input, PromptToken(position, options));
  }
  PV_ASSIGN_OR_RETURN(const auto residual, text_->decoder.Step(input, options));
  if (position >= FirstChosen()) {
    std::vector<double> noise;
    if (stored_.temperature > 0)
      noise = model::ChoiceNoise(DigestFromHex(stored_.seed).value(), static_cast<u64>(position),
                                 parts_.model->choice()->layout().vocabulary, stored_.temperature);
    auto next = text_->choice.Choose(residual, position, noise, options);
    if (!next.ok()) {
      text_->decoder.UndoStep();
      return next.error();
    }
    text_->next = *std::move(next);
  }
  parts_.on_step(latency);
  return {};
}

// Caches, the next input, the pages: one file, so that they are of one moment.
Status Submission::Save() {
  const int position = text_->decoder.position();
  std::vector<ckks::Ciphertext> values = text_->decoder.values();
  values.push_back(text_->next);
  AddPages(text_->choice.pages(), values);
  PV_RETURN_IF_ERROR(
      parts_.folder.WriteState(folder_, position,
                               wire::FormatSessionState(*parts_.model->params(), BindingOf(),
                                                        static_cast<u32>(position), values)));
  parts_.folder.KeepStates(folder_, position, -1);
  parts_.folder.TouchKeys(stored_.keys);
  const std::lock_guard lock(mutex_);
  report_.position = position;
  report_.chosen = chosen(position);
  report_.done = 0;
  pages_ = text_->choice.pages();
  return {};
}

Status Submission::Finish() {
  std::vector<ckks::Ciphertext> values;
  AddPages(pages_, values);
  const auto position = static_cast<u32>(report_.position);
  PV_RETURN_IF_ERROR(parts_.folder.WritePart(
      folder_, kPagesPart,
      wire::FormatSessionState(*parts_.model->params(), BindingOf(), position, values)));
  parts_.folder.KeepStates(folder_, -1, -1);
  for (int i = 0; i < messages(); ++i) parts_.folder.RemovePart(folder_, MessageName(i));
  text_.reset();
  last_use.Touch({});
  const std::lock_guard lock(mutex_);
  report_.phase = SubmissionPhase::kDone;
  report_.operation.clear();
  return {};
}

void Submission::Fail(const Error& error) {
  const std::string text = ErrorToJson(error);
  // Where it cannot be written the text runs into its error again after a restart.
  (void)parts_.folder
      .WritePart(folder_, kErrorPart,
                 {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()})
      .ok();
  SetFailed(error);
}

void Submission::SetFailed(const Error& error) {
  text_.reset();
  last_use.Touch({});
  const std::lock_guard lock(mutex_);
  report_.phase = SubmissionPhase::kFailed;
  report_.error = error;
}

Result<std::vector<runtime::ChoicePage>> Submission::PagesOf(std::vector<ckks::Ciphertext> values,
                                                             int position) const {
  const auto& layout = parts_.model->choice()->layout();
  std::vector<runtime::ChoicePage> pages;
  for (int at = FirstChosen(); at < position; ++at) {
    if (pages.empty() || layout.place(at) == 0) pages.push_back({at, at, {}, {}});
    pages.back().last = at;
  }
  if (values.size() != 2 * pages.size())
    return MakeError(ErrorCode::kMismatch, "job '{}': {} values, {} pages", stored_.handle,
                     values.size(), pages.size());
  for (size_t i = 0; i < pages.size(); ++i) {
    pages[i].bits = std::move(values[2 * i]);
    pages[i].residuals = std::move(values[2 * i + 1]);
  }
  return pages;
}

void Submission::Restore(const Status& missing) {
  const StateFolder& folder = parts_.folder;
  const bool over = folder.HasPart(folder_, kPagesPart);
  if (const Status status = over ? RestoreEnd() : RestoreText(); !status.ok())
    return SetFailed(status.error());
  report_.chosen = chosen(report_.position);
  if (over) return;
  if (folder.HasPart(folder_, kErrorPart)) {
    const auto bytes = folder.ReadPart(folder_, kErrorPart);
    if (!bytes.ok()) return SetFailed(bytes.error());
    return SetFailed(
        ErrorFromReply(200, {reinterpret_cast<const char*>(bytes->data()), bytes->size()}));
  }
  if (!missing.ok()) return SetFailed(missing.error());
  const std::lock_guard lock(mutex_);  // of the thread that begins
  if (report_.received == messages()) Start();
}

Result<std::vector<ckks::Ciphertext>> Submission::ReadValues(const wire::Bytes& bytes,
                                                             int position) const {
  const size_t most = 2 * static_cast<size_t>(stored_.new_tokens) + 1 +
                      static_cast<size_t>(parts_.model->state_count());
  return wire::ParseSessionState(*parts_.model->params(), bytes, BindingOf(),
                                 static_cast<u32>(position), most);
}

Status Submission::RestoreEnd() {
  report_.position = FirstChosen() + stored_.new_tokens;
  report_.received = messages();
  PV_ASSIGN_OR_RETURN(const auto bytes, parts_.folder.ReadPart(folder_, kPagesPart));
  PV_ASSIGN_OR_RETURN(auto values, ReadValues(bytes, report_.position));
  PV_ASSIGN_OR_RETURN(pages_, PagesOf(std::move(values), report_.position));
  report_.phase = SubmissionPhase::kDone;
  text_.reset();
  return {};
}

Status Submission::RestoreText() {
  while (report_.received < messages() &&
         parts_.folder.HasPart(folder_, MessageName(report_.received)))
    ++report_.received;
  const auto positions = parts_.folder.Positions(folder_);
  if (positions.empty()) return {};
  report_.position = positions.front();
  PV_ASSIGN_OR_RETURN(const auto bytes, parts_.folder.ReadState(folder_, report_.position));
  PV_ASSIGN_OR_RETURN(auto values, ReadValues(bytes, report_.position));
  const auto states = static_cast<size_t>(parts_.model->state_count());
  if (values.size() <= states)
    return MakeError(ErrorCode::kMismatch, "job '{}': {} values, the caches are {}", stored_.handle,
                     values.size(), states);
  const auto end = values.begin() + static_cast<std::ptrdiff_t>(states);
  PV_ASSIGN_OR_RETURN(
      pages_, PagesOf({std::make_move_iterator(end + 1), std::make_move_iterator(values.end())},
                      report_.position));
  if (!text_) return {};
  text_->next = std::move(*end);
  values.erase(end, values.end());
  text_->decoder.Restore({report_.position, std::move(values)}, {});
  text_->choice.Restore(pages_);
  return {};
}

}  // namespace polyveil::serve
