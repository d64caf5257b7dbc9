// Text of one manual page, for man(1).
//
// Parts are added in the order in which they appear; text is taken literally, nothing in it is
// markup. Thread-compatible.
// Spec: man(7).
#ifndef GANTRY_BASE_MAN_PAGE_H_
#define GANTRY_BASE_MAN_PAGE_H_

#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace gantry {

class ManPage {
 public:
  // name: "ctl-run"; section: 1; source: "gantry 1.0"; summary: one line, for `man -k`.
  ManPage(absl::string_view name, int section, absl::string_view source, absl::string_view summary);

  void Section(absl::string_view title);
  void Paragraph(absl::string_view text);
  // Bold words, then the rest as it is: "ctl run", "[OPTIONS] IMAGE".
  void Usage(absl::string_view bold, absl::string_view rest);
  // A term and what it means; lines of `text` stay lines.
  void Item(absl::string_view term, absl::string_view text);
  // "-a, --attach list": letter 0 and an empty value_name are left out.
  void Option(char letter, absl::string_view name, absl::string_view value_name,
              absl::string_view text);
  // Lines as they are, indented.
  void Literal(absl::string_view text);
  // "ctl-run(1), ctl-ps(1)" from names of pages with their sections; nothing if there are none.
  void SeeAlso(const std::vector<std::string>& pages);

  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

}  // namespace gantry

#endif  // GANTRY_BASE_MAN_PAGE_H_
