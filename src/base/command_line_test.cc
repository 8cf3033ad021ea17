// Numbers of options, names and files, standard output, signals: what every program relies on.
#include "base/command_line.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <sstream>

#include "base/interrupt.h"
#include "base/output_file.h"

namespace polyveil {
namespace {

template <typename T>
std::string Check(std::string text, T lo, T hi) {
  return CheckNumber(text, NumberRange<T>{lo, hi});
}

TEST(CheckNumber, WholeNumbers) {
  constexpr std::uint64_t kMost = std::numeric_limits<std::uint64_t>::max();
  for (const char* good : {"0", "7", "18446744073709551615"})
    EXPECT_EQ(Check<std::uint64_t>(good, 0, kMost), "") << good;
  for (const char* bad : {"", " 1", "1 ", "+1", "-1", "0x10", "1.0", "1e3", "nan", "inf", "-",
                          "18446744073709551616", "99999999999999999999", "1,2", "١"})
    EXPECT_NE(Check<std::uint64_t>(bad, 0, kMost), "") << bad;
  EXPECT_EQ(Check<std::int64_t>("-3", -3, 3), "");
  for (const char* bad : {"-4", "4", "9223372036854775808", "--3", "-"})
    EXPECT_NE(Check<std::int64_t>(bad, -3, 3), "") << bad;
  EXPECT_EQ(Check<std::uint64_t>("-1", 0, 1024), "\"-1\" is no whole number from 0 to 1024");
  std::string octal = "010";
  EXPECT_EQ(CheckNumber(octal, NumberRange<std::int64_t>{0, 100}), "");
  EXPECT_EQ(octal, "10");
}

TEST(CheckNumber, RealNumbers) {
  for (const char* good : {"0", "1", "0.5", ".5", "1e-3", "10"})
    EXPECT_EQ(Check<double>(good, 0, 10), "") << good;
  for (const char* bad : {"", "nan", "-nan", "inf", "-inf", "infinity", "1e999", "-0.1", "10.1",
                          "0x1p3", "1..2", "1 ", "1e"})
    EXPECT_NE(Check<double>(bad, 0, 10), "") << bad;
}

TEST(CommandLine, OptionsAreRefusedByName) {
  size_t threads = 0;
  std::vector<int> ids;
  CLI::App parser;
  Options app(parser);
  AddThreads(app, threads);
  AddNumber(app, "--ids", ids, {0, 9}, "ids")->delimiter(',');
  parser.parse("--threads 2 --ids 1,2,3");
  EXPECT_EQ(threads, 2u);
  EXPECT_EQ(ids, (std::vector<int>{1, 2, 3}));
  for (const char* line : {"--threads -1", "--threads 1025", "--threads x", "--ids 1,10"}) {
    try {
      parser.parse(line);
      ADD_FAILURE() << line;
    } catch (const CLI::ValidationError& error) {
      EXPECT_NE(std::string(error.what()).find(std::string(line).substr(0, 5)), std::string::npos)
          << error.what();
    }
  }
}

class OutputFile : public testing::Test {
 protected:
  OutputFile() {
    std::string folder = testing::TempDir() + "output-XXXXXX";
    folder_ = mkdtemp(folder.data());
  }
  ~OutputFile() override { std::filesystem::remove_all(folder_); }
  std::string Path(const std::string& name) const { return folder_ + "/" + name; }
  static std::string Read(const std::string& path) {
    std::stringstream text;
    text << std::ifstream(path).rdbuf();
    return text.str();
  }
  long Files() const { return std::distance(std::filesystem::directory_iterator(folder_), {}); }

  std::string folder_;
};

TEST_F(OutputFile, IsTriedWithoutATrace) {
  EXPECT_TRUE(CheckWritable("").ok());
  EXPECT_TRUE(CheckWritable(Path("report.json")).ok());
  EXPECT_EQ(Files(), 0);
  ASSERT_TRUE(WriteFile(Path("report.json"), "old").ok());
  EXPECT_TRUE(CheckWritable(Path("report.json")).ok());
  EXPECT_EQ(Read(Path("report.json")), "old");
  EXPECT_TRUE(CheckWritable("/dev/null").ok());
  for (const std::string& bad :
       {Path("none/report.json"), folder_, Path(""), Path("report.json/x")}) {
    EXPECT_FALSE(CheckWritable(bad).ok()) << bad;
    EXPECT_FALSE(WriteFile(bad, "text").ok()) << bad;
  }
  EXPECT_TRUE(CheckWritableFolder(Path("a/b")).ok());
  EXPECT_FALSE(CheckWritableFolder(Path("report.json/b")).ok());
  EXPECT_EQ(Files(), 2);
}

TEST_F(OutputFile, IsWholeOrAsBefore) {
  ASSERT_TRUE(WriteFile(Path("f"), "first", 0600).ok());
  struct stat info {};
  ASSERT_EQ(stat(Path("f").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
  std::filesystem::create_symlink("f", Path("link"));
  ASSERT_TRUE(WriteFile(Path("link"), "second").ok());
  EXPECT_TRUE(std::filesystem::is_symlink(Path("link")));
  EXPECT_EQ(Read(Path("f")), "second");
  EXPECT_TRUE(WriteFile("/dev/null", "text").ok());
  EXPECT_FALSE(WriteFile("/dev/full", "text").ok());
  EXPECT_EQ(Files(), 2);
}

TEST(FileName, WhatBecomesAPath) {
  for (const char* good : {"run", "power-s1", "model-00001-of-00002.safetensors", "A_b.c"})
    EXPECT_TRUE(CheckFileName("name", good).ok()) << good;
  for (const std::string& bad :
       {std::string(), std::string("."), std::string(".."), std::string("../../evil"),
        std::string("a/b"), std::string("/etc"), std::string(".hidden"), std::string("a b"),
        std::string("a\0b", 3), std::string("a\n"), std::string("\xc3\xa9"),
        std::string(101, 'a')}) {
    EXPECT_FALSE(CheckFileName("name", bad).ok()) << bad;
    EXPECT_TRUE(CheckFileName("name", ToFileName(bad)).ok()) << bad;
  }
  EXPECT_EQ(ToFileName("my texts"), "my_texts");
}

Command Describe(Options& app) {
  auto path = std::make_shared<std::string>();
  AddOutputFile(app, "--json", *path, "report");
  return [path] {
    std::puts("result");
    return path->empty() ? Status() : WriteFile(*path, "report");
  };
}

int Run(std::vector<std::string> words) {
  words.insert(words.begin(), "program");
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  return RunProgram({"program", "a test", "1.0"}, static_cast<int>(argv.size()), argv.data(),
                    Describe);
}

// What a child does with standard output where `open_output` leaves it.
template <typename Prepare>
void ExpectExit(int status, const char* message, const std::vector<std::string>& words,
                Prepare prepare) {
  EXPECT_EXIT(
      {
        prepare();
        std::exit(Run(words));
      },
      testing::ExitedWithCode(status), message);
}

TEST(RunProgramDeathTest, OutputThatNobodyReceivesIsAnError) {
  const auto to = [](const char* path) {
    return [path] { dup2(open(path, O_WRONLY), STDOUT_FILENO); };
  };
  const auto pipe_without_reader = [] {
    int ends[2];
    if (pipe(ends) != 0) std::abort();
    dup2(ends[1], STDOUT_FILENO);
    close(ends[0]);
  };
  ExpectExit(0, "", {}, to("/dev/null"));
  for (const std::vector<std::string>& words :
       {std::vector<std::string>{}, {"--help"}, {"--version"}}) {
    ExpectExit(1, "standard output", words, to("/dev/full"));
    ExpectExit(1, "standard output", words, pipe_without_reader);
    ExpectExit(1, "standard output", words, [] { close(STDOUT_FILENO); });
  }
  ExpectExit(1, "/nonexistent/x: cannot write", {"--json", "/nonexistent/x"}, to("/dev/null"));
  ExpectExit(109, "--nothing", {"--nothing"}, to("/dev/null"));
}

TEST(InterruptDeathTest, EndsAtOnceUnlessTheWorkEndsInOrder) {
  EXPECT_EXIT(
      {
        InstallSignalHandlers();
        raise(SIGINT);
      },
      testing::ExitedWithCode(130), "");
  EXPECT_EXIT(
      {
        InstallSignalHandlers();
        const OrderlyEnd end(1);
        raise(SIGTERM);
        if (!Interrupted()) std::exit(1);
        WaitForInterrupt();
        sleep(20);  // the alarm comes before
      },
      testing::ExitedWithCode(143), "");
  EXPECT_EXIT(
      {
        InstallSignalHandlers();
        const OrderlyEnd end(0);
        raise(SIGINT);
        raise(SIGINT);
        std::exit(1);
      },
      testing::ExitedWithCode(130), "");
  EXPECT_EXIT(
      {
        InstallSignalHandlers();
        { const OrderlyEnd end(0); }
        raise(SIGTERM);
      },
      testing::ExitedWithCode(143), "");
}

}  // namespace
}  // namespace polyveil
