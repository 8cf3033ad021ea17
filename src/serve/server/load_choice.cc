#include "serve/server/load_choice.h"

#include <filesystem>
#include <utility>

#include "base/mapped_file.h"
#include "model/formats/choice_tables.h"

namespace polyveil::serve {

std::string ChoicePath(const std::string& path) {
  std::error_code error;
  std::filesystem::path folder(path);
  if (!std::filesystem::is_directory(folder, error)) folder = folder.parent_path();
  return (folder / model::kChoiceName).string();
}

Result<std::shared_ptr<const compile::Choice>> LoadChoice(const std::string& path,
                                                          const model::ClientFiles& client) {
  auto choice = std::make_shared<compile::Choice>();
  PV_ASSIGN_OR_RETURN(choice->tables, model::LoadChoiceTables(client));
  const std::string file = ChoicePath(path);
  if (!std::filesystem::exists(file))
    return MakeError(ErrorCode::kNotFound, "{} is not there: 'polyveil fit-choice' makes it", file);
  PV_ASSIGN_OR_RETURN(const auto mapped, MappedFile::Open(file));
  PV_ASSIGN_OR_RETURN(choice->forms, model::ParseChoiceForms(mapped->text()));
  if (choice->forms.tables != choice->tables->digest)
    return MakeError(ErrorCode::kMismatch, "{} is of tables {}, this model's are {}", file,
                     choice->forms.tables.substr(0, 16), choice->tables->digest.substr(0, 16));
  return std::shared_ptr<const compile::Choice>(std::move(choice));
}

}  // namespace polyveil::serve
