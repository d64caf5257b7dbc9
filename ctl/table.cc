#include "ctl/table.h"

#include <algorithm>
#include <vector>

#include "absl/strings/str_split.h"

#include "ctl/text.h"

namespace gantry::ctl {

std::string AlignColumns(absl::string_view text, size_t min_width, size_t padding) {
  std::vector<std::vector<absl::string_view>> lines;
  const bool ends_in_newline = !text.empty() && text.back() == '\n';
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    lines.push_back(absl::StrSplit(line, '\t'));
  }
  if (ends_in_newline) lines.pop_back();

  std::vector<size_t> widths;
  for (const auto& cells : lines) {
    for (size_t i = 0; i + 1 < cells.size(); ++i) {
      if (widths.size() <= i) widths.push_back(min_width);
      widths[i] = std::max(widths[i], DisplayWidth(cells[i]) + padding);
    }
  }
  std::string out;
  for (const auto& cells : lines) {
    for (size_t i = 0; i < cells.size(); ++i) {
      out.append(cells[i].data(), cells[i].size());
      if (i + 1 < cells.size()) out.append(widths[i] - DisplayWidth(cells[i]), ' ');
    }
    out.push_back('\n');
  }
  if (!ends_in_newline && !out.empty()) out.pop_back();
  return out;
}

}  // namespace gantry::ctl
