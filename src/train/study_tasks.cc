#include "train/study_tasks.h"

#include <algorithm>
#include <random>

#include "base/check.h"

namespace polyveil::train {
namespace {

class TaskMaker {
 public:
  TaskMaker(int length, const TaskAlphabet& alphabet, std::uint64_t seed)
      : length_(static_cast<std::size_t>(length)), random_(seed) {
    for (int i = 0; i < alphabet.symbols; ++i) symbols_.push_back(alphabet.first_symbol + i);
    for (std::size_t i = symbols_.size(); i-- > 1;) std::swap(symbols_[i], symbols_[Below(i + 1)]);
  }

  TaskSequence Make(Task task) {
    switch (task) {
      case Task::kCopy:
        Copy();
        break;
      case Task::kRecall:
        Recall();
        break;
      case Task::kNgram:
        Ngram();
        break;
      case Task::kKeyValue:
        KeyValue();
        break;
    }
    out_.tokens.resize(length_);
    out_.predictable.resize(length_);
    return std::move(out_);
  }

 private:
  std::size_t Below(std::size_t bound) { return random_() % bound; }
  bool Full() const { return out_.tokens.size() >= length_; }
  void Put(std::int32_t token, bool predictable = false) {
    out_.tokens.push_back(token);
    out_.predictable.push_back(predictable);
  }

  void Copy() {
    const std::size_t n = (length_ - 1) / 2;
    std::vector<std::int32_t> text;
    for (std::size_t i = 0; i < n; ++i) text.push_back(symbols_[Below(symbols_.size())]);
    for (const std::int32_t token : text) Put(token);
    Put('|');
    for (const std::int32_t token : text) Put(token, true);
    Put('|');
  }

  // A walk along successors fixed for the sequence, with jumps: what followed a symbol follows
  // again.
  void Recall() {
    const std::size_t states = symbols_.size() / 4;
    std::vector<std::size_t> next(states);
    for (std::size_t& to : next) to = Below(states);
    std::vector<bool> left(states, false);
    std::size_t state = Below(states);
    Put(symbols_[state]);
    while (!Full()) {
      const bool jump = Below(10) < 3, known = left[state];
      if (!jump) left[state] = true;
      state = jump ? Below(states) : next[state];
      Put(symbols_[state], known && !jump);
    }
  }

  void Ngram() {
    constexpr std::size_t kStates = 8;
    constexpr int kVisits = 3;  // after so many the common successor is clear
    std::vector<std::size_t> common(kStates), rare(kStates);
    for (std::size_t s = 0; s < kStates; ++s) {
      common[s] = Below(kStates);
      rare[s] = (common[s] + 1 + Below(kStates - 1)) % kStates;
    }
    std::size_t state = Below(kStates);
    std::vector<int> visits(kStates);
    bool known = false;
    while (!Full()) {
      Put(symbols_[state], known);
      known = visits[state]++ >= kVisits;
      state = Below(10) == 0 ? rare[state] : common[state];
    }
  }

  void KeyValue() {
    const std::size_t half = symbols_.size() / 2;
    std::vector<std::pair<std::int32_t, std::int32_t>> pairs;
    while (!Full()) {
      const bool again = pairs.size() > 2 && (pairs.size() == half || Below(2) == 0);
      if (!again) pairs.emplace_back(symbols_[pairs.size()], symbols_[half + Below(half)]);
      const auto [key, value] = again ? pairs[Below(pairs.size())] : pairs.back();
      Put(key);
      Put(':');
      Put(value, again);
      Put(';');
    }
  }

  std::size_t length_;
  std::mt19937_64 random_;
  std::vector<std::int32_t> symbols_;
  TaskSequence out_;
};

}  // namespace

const char* TaskName(Task task) {
  switch (task) {
    case Task::kCopy:
      return "copy";
    case Task::kRecall:
      return "recall";
    case Task::kNgram:
      return "n-gram";
    case Task::kKeyValue:
      return "key-value";
  }
  return "unknown";
}

TaskSequence MakeTask(Task task, int length, const TaskAlphabet& alphabet, std::uint64_t seed) {
  PV_CHECK(length >= 16 && alphabet.symbols >= 32, "length {}, {} symbols", length,
           alphabet.symbols);
  // Task and seed mixed, so that the tasks of one seed are not cut from the same numbers.
  return TaskMaker(length, alphabet, seed * 8 + static_cast<std::uint64_t>(task)).Make(task);
}

double BestAccuracy(Task task) { return task == Task::kNgram ? 0.9 : 1; }

}  // namespace polyveil::train
