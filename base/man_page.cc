#include "base/man_page.h"

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace gantry {
namespace {

// A hyphen stays what one types, and is not made a typographic one.
std::string Escaped(absl::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '\\':
        out += "\\e";
        break;
      case '-':
        out += "\\-";
        break;
      case '\'':
        out += "\\(aq";
        break;
      case '`':
        out += "\\(ga";
        break;
      case '^':
        out += "\\(ha";
        break;
      case '~':
        out += "\\(ti";
        break;
      default:
        out.push_back(c);
    }
  }
  return out;
}

// A line that begins with a dot would be a request.
std::string Line(absl::string_view text) {
  return absl::StrCat(!text.empty() && text[0] == '.' ? "\\&" : "", Escaped(text), "\n");
}

// Lines that stay apart.
std::string Broken(absl::string_view text) {
  std::string out;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    absl::StrAppend(&out, out.empty() ? "" : ".br\n", line.empty() ? "\\&\n" : Line(line));
  }
  return out;
}

std::string Quoted(absl::string_view text) {
  std::string out = "\"";
  for (const char c : text) absl::StrAppend(&out, c == '"' ? "\\(dq" : std::string(1, c));
  return out + "\"";
}

}  // namespace

ManPage::ManPage(absl::string_view name, int section, absl::string_view source,
                 absl::string_view summary)
    : text_(absl::StrCat(".TH ", Quoted(absl::AsciiStrToUpper(name)), " ", section, " \"\" ",
                         Quoted(source), " \"Gantry\"\n")) {
  Section("NAME");
  absl::StrAppend(&text_, Escaped(name), " \\- ", Escaped(summary), "\n");
}

void ManPage::Section(absl::string_view title) {
  absl::StrAppend(&text_, ".SH ", Quoted(Escaped(title)), "\n");
}

void ManPage::Paragraph(absl::string_view text) {
  absl::StrAppend(&text_, ".PP\n");
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    absl::StrAppend(&text_, line.empty() ? ".PP\n" : Line(line));
  }
}

void ManPage::Usage(absl::string_view bold, absl::string_view rest) {
  absl::StrAppend(&text_, ".PP\n\\fB", Escaped(bold), "\\fR ", Escaped(rest), "\n");
}

void ManPage::Item(absl::string_view term, absl::string_view text) {
  absl::StrAppend(&text_, ".TP\n\\fB", Escaped(term), "\\fR\n", Broken(text));
}

void ManPage::Option(char letter, absl::string_view name, absl::string_view value_name,
                     absl::string_view text) {
  std::string term;
  if (letter != 0) term = absl::StrCat("\\-", std::string(1, letter), "\\fR, \\fB");
  absl::StrAppend(&term, "\\-\\-", Escaped(name), "\\fR");
  if (!value_name.empty()) absl::StrAppend(&term, " \\fI", Escaped(value_name), "\\fR");
  absl::StrAppend(&text_, ".TP\n\\fB", term, "\n", Broken(text));
}

void ManPage::Literal(absl::string_view text) {
  absl::StrAppend(&text_, ".PP\n.nf\n.RS\n");
  for (absl::string_view line : absl::StrSplit(absl::StripTrailingAsciiWhitespace(text), '\n')) {
    absl::StrAppend(&text_, line.empty() ? "\n" : Line(line));
  }
  absl::StrAppend(&text_, ".RE\n.fi\n");
}

void ManPage::SeeAlso(const std::vector<std::string>& pages) {
  if (pages.empty()) return;
  Section("SEE ALSO");
  bool first = true;
  for (const std::string& page : pages) {
    const size_t open = page.find('(');
    absl::StrAppend(&text_, first ? "" : ",\n", "\\fB", Escaped(page.substr(0, open)), "\\fR",
                    open == std::string::npos ? "" : page.substr(open));
    first = false;
  }
  absl::StrAppend(&text_, "\n");
}

}  // namespace gantry
