#include "base/printable.h"

#include <gtest/gtest.h>

#include <random>

namespace polyveil {
namespace {

TEST(Printable, KeepsOrdinaryText) {
  for (const char* text : {"", "layer 1 / norm", "caf\u00e9 \u4e2d\u6587 \U0001f600 \u05d0 \\ \""})
    EXPECT_EQ(Printable(text), text);
}

TEST(Printable, EscapesWhatATerminalObeys) {
  EXPECT_EQ(Printable("a\x1b[2J\r\n\x7f\t"), "a\\x1b[2J\\x0d\\n\\x7f\\x09");
  EXPECT_EQ(Printable("\u009b31m"), "\\u{9b}31m");
  EXPECT_EQ(Printable("\u202eabc\u2066"), "\\u{202e}abc\\u{2066}");
  EXPECT_EQ(Printable(std::string_view("a\0b", 3)), "a\\x00b");
  EXPECT_EQ(PrintableLines("a\n\tb\x1b", 100), "a\n\tb\\x1b");
}

TEST(Printable, EscapesBytesThatAreNoUtf8) {
  EXPECT_EQ(Printable("\xff\xc3"), "\\xff\\xc3");
  EXPECT_EQ(Printable("\xc0\xaf"), "\\xc0\\xaf");                  // overlong
  EXPECT_EQ(Printable("\xed\xa0\x80"), "\\xed\\xa0\\x80");         // a surrogate
  EXPECT_EQ(Printable("\xf4\x90\x80\x80").substr(0, 4), "\\xf4");  // above 10ffff
}

TEST(Printable, BoundsItsLength) {
  EXPECT_EQ(Printable("abcdef", 3), "abc... (3 bytes more)");
  EXPECT_EQ(Printable("\u4e2d\u4e2d", 4), "\u4e2d... (3 bytes more)");
  EXPECT_LT(Printable(std::string(1 << 20, '\x1b'), 100).size(), 130u);
}

TEST(Printable, NothingUnsafeLeavesItWhateverTheBytes) {
  std::mt19937_64 random(5);
  for (int round = 0; round < 2000; ++round) {
    std::string text(random() % 64, ' ');
    for (char& c : text) c = static_cast<char>(random());
    const std::string out = Printable(text);
    for (const char c : out) EXPECT_FALSE(static_cast<unsigned char>(c) < 0x20 || c == 0x7f);
    EXPECT_EQ(Printable(out, 4096), out);
  }
}

}  // namespace
}  // namespace polyveil
