# Turns what a program says with --help into a manual page. Its sections become the page's.
#
#   herald publish --help | awk -v name="herald publish" -v version="herald 1.0" -f page.awk

function escaped(text) {
    gsub(/\\/, "\\e", text)
    gsub(/-/, "\\-", text)
    gsub(/'/, "\\(aq", text)
    gsub(/`/, "\\(ga", text)
    return text
}

function print_text(text) {
    text = escaped(text)
    print text ~ /^\./ ? "\\&" text : text
}

# An option or a command in bold, its values in italics.
function marked(text) {
    text = escaped(text)
    gsub(/<[^>]*>/, "\\fI&\\fB", text)
    return "\\fB" text "\\fR"
}

function end_list() {
    if (is_list) print ".RE"
    is_list = 0
}

BEGIN {
    page = name
    gsub(/ /, "-", page)
}

# What it is for, up to the usage.
usage == "" && !/^Usage: / {
    if (about == "" && /./) about = $0
    else if (/./) description[++paragraphs] = $0
    next
}

/^Usage: / {
    usage = substr($0, 8)
    sub(/\.$/, "", about)
    printf ".TH %s 1 \"\" \"%s\" \"User Commands\"\n", toupper(page), version
    # Nothing that is typed as it is shown is broken at a hyphen that it has not.
    print ".nh"
    printf ".SH NAME\n%s \\- %s\n.SH SYNOPSIS\n%s\n", escaped(page), escaped(about), marked(usage)
    print ".SH DESCRIPTION"
    print_text(about ".")
    for (at = 1; at <= paragraphs; at++) {
        print ".PP"
        print_text(description[at])
    }
    next
}

/^ *$/ {
    is_apart = 1
    next
}

/^ / && section == "" {
    sub(/^ +/, "")
    print ".br"
    print marked($0)
    next
}

/^[A-Z][A-Za-z ]*:$/ {
    end_list()
    section = toupper(substr($0, 1, length($0) - 1))
    print ".SH " section
    is_item = is_apart = 0
    next
}

# What is said of an item, below it.
/^          / && is_item {
    sub(/^ +/, "")
    if (/^- /) {
        if (!is_list) print ".RS"
        is_list = 1
        sub(/^- /, "")
        value = $0
        sub(/:.*/, "", value)
        sub(/^[^:]*: */, "")
        print ".TP\n" marked(value)
    } else {
        # A default and a variable are a few words, and need no paragraph of their own.
        if (is_list || is_apart && !/^\[/) {
            end_list()
            print ".IP"
        }
    }
    print_text($0)
    is_apart = 0
    next
}

/^ / {
    end_list()
    sub(/^ +/, "")
    text = ""
    if (match($0, /   *[^ ]/)) {
        text = substr($0, RSTART + RLENGTH - 1)
        $0 = substr($0, 1, RSTART - 1)
    }
    print ".TP\n" marked($0)
    if (text != "") print_text(text)
    is_item = 1
    is_apart = 0
    next
}

# What is said below all sections.
{
    end_list()
    if (is_item || is_apart) print ".PP"
    is_item = is_apart = 0
    print_text($0)
}

END {
    end_list()
    if (name ~ / /) {
        sub(/ [^ ]*$/, "", name)
        gsub(/ /, "-", name)
        printf ".SH SEE ALSO\n.BR %s (1)\n", escaped(name)
    }
}
