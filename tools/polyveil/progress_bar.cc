#include "polyveil/progress_bar.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "polyveil/terminal.h"

namespace polyveil::tools {
namespace {

constexpr double kRedrawSeconds = 0.1;
constexpr double kLineSeconds = 10;  // where there is no terminal
constexpr int kBarCells = 24;

size_t TerminalColumns() {
  winsize size{};
  if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
  return 80;
}

std::string Bar(double fraction) {
  const int full = static_cast<int>(fraction * kBarCells + 0.5);
  return std::string(static_cast<size_t>(full), '#') +
         std::string(static_cast<size_t>(kBarCells - full), '.');
}

}  // namespace

ProgressBar::ProgressBar(std::string title, double expected_seconds)
    : title_(std::move(title)),
      expected_seconds_(expected_seconds),
      terminal_(isatty(STDERR_FILENO) != 0) {}

// The measured pace counts more the further the work is.
double ProgressBar::SecondsLeft(double fraction) const {
  const double elapsed = timer_.Seconds();
  const double guessed = std::max(0.0, expected_seconds_ - elapsed);
  if (fraction < 0.01) return guessed;
  const double paced = elapsed * (1 - fraction) / fraction;
  if (expected_seconds_ <= 0) return paced;
  const double trust = std::min(1.0, fraction * 4);
  return trust * paced + (1 - trust) * guessed;
}

std::string ProgressBar::Line(double fraction, std::string_view label) const {
  return fmt::format("{} [{}] {:3.0f}%  {} left  {}", title_, Bar(fraction), fraction * 100,
                     FormatSeconds(SecondsLeft(fraction)), label);
}

void ProgressBar::Update(double fraction, std::string_view label) {
  fraction = std::clamp(fraction, 0.0, 1.0);
  const double now = timer_.Seconds();
  if (now - last_seconds_ < (terminal_ ? kRedrawSeconds : kLineSeconds)) return;
  const bool first = last_seconds_ < 0;
  last_seconds_ = now;
  if (!terminal_ && first) return;  // short work needs no line
  std::string line = Line(fraction, label);
  if (!terminal_) {
    std::fprintf(stderr, "%s\n", line.c_str());
    return;
  }
  line.resize(std::min(line.size(), TerminalColumns() - 1));
  std::fprintf(stderr, "\r%s\033[K", line.c_str());
  std::fflush(stderr);
  drawn_ = true;
}

void ProgressBar::Clear() {
  if (!drawn_) return;
  std::fprintf(stderr, "\r\033[K");
  std::fflush(stderr);
  drawn_ = false;
}

}  // namespace polyveil::tools
