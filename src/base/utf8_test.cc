// Characters of UTF-8: every one, every kind of broken text, every cut of a stream.
#include "base/utf8.h"

#include <gtest/gtest.h>

#include <random>

namespace polyveil {
namespace {

TEST(Utf8, EveryCharacterReadsBack) {
  for (char32_t code = 0; code <= 0x10ffff; code += code < 0x3000 ? 1 : 257) {
    if (code >= 0xd800 && code <= 0xdfff) continue;
    std::string text;
    AppendUtf8(code, text);
    const CodePoint read = DecodeUtf8(text + "x");
    ASSERT_EQ(read.value, code);
    ASSERT_EQ(read.bytes, text.size());
  }
}

TEST(Utf8, RefusesWhatIsNoCharacter) {
  for (const char* text : {"\x80", "\xbf", "\xc0\x80", "\xc1\xbf", "\xe0\x9f\xbf", "\xed\xa0\x80",
                           "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xff",
                           "\xc3", "\xe2\x82", "\xf0\x9f\x98", "\xc3(", "\xe2\x82("})
    EXPECT_EQ(DecodeUtf8(text).bytes, 0u) << text;
}

TEST(Utf8Stream, WaitsInsideCharactersAtEveryCut) {
  const std::string text = "a\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80z";
  for (std::size_t first = 0; first <= text.size(); ++first)
    for (std::size_t second = first; second <= text.size(); ++second) {
      Utf8Stream stream;
      std::string out;
      for (const std::string& piece :
           {text.substr(0, first), text.substr(first, second - first), text.substr(second)}) {
        const std::string whole = stream.Push(piece);
        Utf8Stream check;
        EXPECT_EQ(check.Push(whole), whole) << first << ", " << second;
        out += whole;
      }
      EXPECT_EQ(out + stream.Finish(), text) << first << ", " << second;
    }
}

TEST(Utf8Stream, ReplacesBrokenBytes) {
  Utf8Stream stream;
  EXPECT_EQ(stream.Push("a\xff"
                        "b\xe2\x82"),
            "a\xef\xbf\xbd"
            "b");
  EXPECT_EQ(stream.Push("c"),
            "\xef\xbf\xbd"
            "c");
  EXPECT_EQ(stream.Push("\xf0\x9f"), "");
  EXPECT_EQ(stream.Finish(), "\xef\xbf\xbd");
  EXPECT_EQ(stream.Finish(), "");
}

TEST(Utf8Stream, AnyBytesInAnyPiecesBecomeTheSameText) {
  std::mt19937_64 random(3);
  for (int round = 0; round < 2000; ++round) {
    std::string bytes;
    for (int i = 0; i < 12; ++i)
      bytes += static_cast<char>(random() % 2 ? 0x80 + random() % 128 : random() % 256);
    Utf8Stream whole, pieces;
    std::string expected = whole.Push(bytes);
    expected += whole.Finish();
    std::string out;
    for (std::size_t at = 0; at < bytes.size();) {
      const std::size_t count = 1 + random() % 3;
      out += pieces.Push(std::string_view(bytes).substr(at, count));
      at += count;
    }
    out += pieces.Finish();
    EXPECT_EQ(out, expected);
  }
}

}  // namespace
}  // namespace polyveil
