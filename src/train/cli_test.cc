// Every option of every verb of the trainer.
#include "train/cli.h"

#include <gtest/gtest.h>

#include <CLI/CLI.hpp>
#include <set>

namespace polyveil::train {
namespace {

const std::initializer_list<Verb> kVerbs = {
    {"prepare", "", DescribePrepare}, {"run", "", DescribeRun},
    {"eval", "", DescribeEval},       {"ranges", "", DescribeRanges},
    {"convert", "", DescribeConvert}, {"study", "", DescribeStudy},
    {"search", "", DescribeSearch},   {"baseline", "", DescribeBaseline},
    {"export", "", DescribeExport},   {"sample", "", DescribeSample}};

std::string ErrorOf(const Verb& verb, const std::vector<std::string>& words) {
  CLI::App app;
  Options options(app);
  const Command command = verb.describe(options);
  std::vector<std::string> reversed(words.rbegin(), words.rend());
  try {
    app.parse(reversed);
  } catch (const CLI::ParseError& error) {
    return error.what();
  }
  return "";
}

TEST(TrainCommandLine, RefusesNumbersThatAreNoneByName) {
  const std::set<std::string> kNumbers = {"INT", "UINT", "FLOAT"};
  int tried = 0;
  for (const Verb& verb : kVerbs) {
    CLI::App app;
    Options options(app);
    const Command command = verb.describe(options);
    for (const CLI::Option* option : app.get_options()) {
      if (!kNumbers.count(option->get_type_name())) continue;
      for (const char* bad :
           {"-1", "nan", "inf", "-inf", "1e999", "99999999999999999999", "x", "1x"}) {
        const std::string error = ErrorOf(verb, {option->get_name(), bad});
        EXPECT_NE(error.find(option->get_name()), std::string::npos) << verb.name << bad << error;
        EXPECT_NE(error.find(bad), std::string::npos) << verb.name << ": " << error;
        ++tried;
      }
    }
  }
  EXPECT_GT(tried, 8 * 20);
}

TEST(TrainCommandLine, EveryVerbHasItsOwnPage) {
  std::set<std::string> pages;
  for (const Verb& verb : kVerbs) {
    CLI::App app;
    Options options(app);
    const Command command = verb.describe(options);
    EXPECT_TRUE(pages.insert(app.help()).second) << verb.name;
    EXPECT_FALSE(app.get_description().empty()) << verb.name;
    EXPECT_NE(ErrorOf(verb, {"--no-such-option"}), "") << verb.name;
  }
}

TEST(TrainCommandLine, TakesWhatItSays) {
  EXPECT_EQ(ErrorOf({"", "", DescribePrepare},
                    {"--data", "d", "--out", "o", "--vocab", "300", "--heldout", "20"}),
            "");
  EXPECT_EQ(ErrorOf({"", "", DescribeEval}, {"--data", "d", "a.pt", "b.pt"}), "");
  EXPECT_EQ(ErrorOf({"", "", DescribeSample}, {"--model", "m", "--temperature", "0.5", "a prompt"}),
            "");
  EXPECT_NE(ErrorOf({"", "", DescribeRun}, {"--config", "c", "--data", "d"}), "");
  EXPECT_NE(ErrorOf({"", "", DescribeRun},
                    {"--config", "c", "--data", "d", "--out", "o", "--resume", "--replace"}),
            "");
  EXPECT_NE(ErrorOf({"", "", DescribeConvert}, {"--json", "/nonexistent/x.json"}), "");
}

}  // namespace
}  // namespace polyveil::train
