//! `/proc/PID/cmdline` as one line that a person can read, without the secrets in it.
//!
//! The kernel gives the arguments with a NUL after each; a process that has set its own title (`sshd: ada@pts/0`) has one
//! argument or none of those NULs. Arguments are quoted as a shell would need them, a lone one is not.
//!
//! **Secrets** are hidden before anything is stored: the value of an option, variable, header or URL parameter whose name
//! speaks of one (`--password=…`, `--token …`, `PGPASSWORD=…`, `"secret": "…"`, `Authorization: …`), the password of a URL
//! (`scheme://user:…@host`) and of `curl -u user:…`, and what follows `-p` of the MySQL programs. This looks at each word of
//! each argument, `sh -c` scripts too. It errs on the side of hiding; a secret under a name that says nothing stays.

/// No more of a command line is kept.
const LIMIT: usize = 4096;

const HIDDEN: &str = "***";

/// What the kernel's text says; `None` for a kernel thread or a zombie, which have none. Where text is cut off it ends in `…`.
pub fn line(text: &[u8]) -> Option<String> {
    let cut = text.len() > LIMIT;
    let text = &text[..text.len().min(LIMIT)];
    let end = text.iter().rposition(|&b| b != 0)? + 1;
    // What follows a title is what is left of the room that it was written into; what follows the last of several arguments, but
    // for its own NUL, is empty arguments.
    let is_title = !text[..end].contains(&0);
    let text = if is_title {
        &text[..end]
    } else {
        text.strip_suffix(b"\0").unwrap_or(text)
    };
    let arguments: Vec<_> = text.split(|&b| b == 0).map(String::from_utf8_lossy).collect();
    let mut secrets = Secrets::of(&arguments[0]);
    let shown: Vec<_> = arguments.iter().map(|argument| secrets.hide(argument)).collect();
    let mut line = match shown.as_slice() {
        [title] => escape_controls(title),
        arguments => arguments.iter().map(|a| quote(a)).collect::<Vec<_>>().join(" "),
    };
    if cut {
        line.push('…');
    }
    Some(line)
}

/// As a POSIX shell, or bash where there are control characters, would read the argument back.
fn quote(argument: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_=/.,:@%+^#~*?[]{}!".contains(c);
    if argument.chars().any(char::is_control) {
        format!(
            "$'{}'",
            escape_controls(&argument.replace('\\', "\\\\").replace('\'', "\\'"))
        )
    } else if argument.is_empty() || !argument.chars().all(plain) {
        format!("'{}'", argument.replace('\'', r"'\''"))
    } else {
        argument.to_owned()
    }
}

fn escape_controls(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// Walks over the words of a command line, knowing what the word before has said.
struct Secrets {
    /// The next word is, or may be, a secret.
    next: Next,
    mysql: bool,
    curl: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Next {
    Word,
    /// The value of an option, unless it is an option itself.
    Value,
    /// The value of a header: one word, or a scheme such as `Bearer` and one word.
    Header,
    /// `user:password`
    UserPassword,
}

impl Secrets {
    fn of(program: &str) -> Self {
        let name = program.rsplit('/').next().unwrap_or(program);
        Secrets {
            next: Next::Word,
            mysql: name.starts_with("mysql") || name.starts_with("mariadb"),
            curl: name.starts_with("curl"),
        }
    }

    /// The argument with its secrets hidden. White space in it parts words, but its own end is an end of a word too.
    fn hide(&mut self, argument: &str) -> String {
        let mut out = String::with_capacity(argument.len());
        for piece in argument.split_inclusive(char::is_whitespace) {
            let word = piece.trim_end_matches(char::is_whitespace);
            if word.is_empty() {
                out.push_str(piece);
                continue;
            }
            out.push_str(&self.hide_word(word));
            out.push_str(&piece[word.len()..]);
        }
        out
    }

    fn hide_word(&mut self, word: &str) -> String {
        let was = std::mem::replace(&mut self.next, Next::Word);
        let bare = word.trim_matches(['"', '\'']);
        match was {
            Next::Value if !word.starts_with('-') => return HIDDEN.to_owned(),
            Next::Header => {
                if ["bearer", "basic", "digest", "token", "negotiate"].contains(&bare.to_lowercase().as_str()) {
                    self.next = Next::Header;
                    return word.to_owned();
                }
                let closing = word.trim_start_matches(|c| c != '"' && c != '\'');
                return format!("{HIDDEN}{}", if closing.len() == 1 { closing } else { "" });
            }
            Next::UserPassword => {
                let user = word.split(':').next().unwrap_or_default();
                return if word.contains(':') {
                    format!("{user}:{HIDDEN}")
                } else {
                    word.to_owned()
                };
            }
            _ => {}
        }
        let name = bare.trim_start_matches('-');
        if name.len() < bare.len() && !name.contains(['=', ':']) && speaks_of_a_secret(name) {
            self.next = Next::Value;
        } else if self.curl && ["-u", "--user", "-U", "--proxy-user"].contains(&bare) {
            self.next = Next::UserPassword;
        } else if self.mysql && bare.starts_with("-p") && bare.len() > 2 {
            return format!("-p{HIDDEN}");
        } else if bare.ends_with(':') && speaks_of_a_secret(bare.trim_end_matches(['"', '\'', ':'])) {
            self.next = Next::Header;
        } else {
            return hide_values(&hide_url_password(word));
        }
        word.to_owned()
    }
}

/// `scheme://user:password@host`
fn hide_url_password(word: &str) -> String {
    let parts = word.split_once("://").and_then(|(scheme, rest)| {
        let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
        let (user_password, _) = authority.rsplit_once('@')?;
        let (user, _) = user_password.split_once(':')?;
        Some((scheme, user, &rest[user_password.len()..]))
    });
    match parts {
        Some((scheme, user, rest)) => format!("{scheme}://{user}:{HIDDEN}{rest}"),
        None => word.to_owned(),
    }
}

/// Hides each value in `name=value` and `"name":"value"` whose name speaks of a secret. A value goes on to the end of the word,
/// or of a parameter of a URL or of a list.
fn hide_values(word: &str) -> String {
    let mut out = String::with_capacity(word.len());
    let mut rest = word;
    while let Some(at) = rest.find(['=', ':']) {
        let (before, after) = rest.split_at(at + 1);
        out.push_str(before);
        rest = after;
        let name = before[..at].trim_end_matches(['"', '\'']);
        let start = name.rfind(|c: char| !(c.is_alphanumeric() || "-_.".contains(c)));
        let name = &name[start.map_or(0, |i| i + name[i..].chars().next().map_or(1, char::len_utf8))..];
        // `path::token:` of a program's own syntax, `C:\` and `token:` at the end hide nothing.
        let quotes = rest.len() - rest.trim_start_matches(['"', '\'']).len();
        if !speaks_of_a_secret(name) || rest[quotes..].is_empty() || rest.starts_with(':') {
            continue;
        }
        let ends: &[char] = if quotes > 0 {
            &['"', '\'']
        } else {
            &['&', ',', ';', '}', '"', '\'']
        };
        let value = &rest[quotes..];
        let end = value.find(ends).unwrap_or(value.len());
        out.push_str(&rest[..quotes]);
        out.push_str(HIDDEN);
        rest = &value[end..];
    }
    out.push_str(rest);
    out
}

/// Whether what goes by this name is a secret: `db_password`, `API-KEY`, `token`; but not the name of a file that has one.
fn speaks_of_a_secret(name: &str) -> bool {
    const PARTS: [&str; 12] = [
        "password",
        "passwd",
        "passphrase",
        "secret",
        "token",
        "apikey",
        "accesskey",
        "privatekey",
        "credential",
        "authorization",
        "cookie",
        "pwd",
    ];
    const ENDS: [&str; 7] = ["file", "path", "dir", "tokens", "tokenizer", "type", "url"];
    let name: String = name
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .collect::<String>()
        .to_lowercase();
    let whole = ["pass", "auth", "sig", "signature"].contains(&name.as_str()) || name.ends_with("pass");
    let other = ["pwd", "oldpwd", "bypass"].contains(&name.as_str()) || ENDS.iter().any(|end| name.ends_with(end));
    (whole || PARTS.iter().any(|part| name.contains(part))) && !other
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(arguments: &[&str], expect: &str) {
        let text: Vec<u8> = arguments.iter().flat_map(|a| [a.as_bytes(), b"\0"].concat()).collect();
        assert_eq!(line(&text).as_deref(), Some(expect));
    }

    #[test]
    fn arguments_and_titles() {
        assert_eq!(line(b""), None);
        assert_eq!(line(b"\0\0\0"), None);
        check(&["/usr/bin/cat", "-n", "a.txt"], "/usr/bin/cat -n a.txt");
        check(
            &["cat", "two words", "", "it's", "$x"],
            r"cat 'two words' '' 'it'\''s' '$x'",
        );
        check(&["cat", "a", ""], "cat a ''");
        check(&["printf", "a\nb\t'\\"], r"printf $'a\nb\t\'\\'");
        // A title is no list of arguments, with trailing NULs or without.
        assert_eq!(line(b"sshd: ada@pts/0").as_deref(), Some("sshd: ada@pts/0"));
        assert_eq!(
            line(b"nginx: worker process\0\0\0\0").as_deref(),
            Some("nginx: worker process")
        );
        assert_eq!(line(b"a\nb\0").as_deref(), Some(r"a\nb"));
        assert_eq!(
            line(b"caf\xe9\0x\0").as_deref(),
            Some("caf\u{fffd} x").map(|_| "'caf\u{fffd}' x")
        );
    }

    #[test]
    fn long_lines_are_cut() {
        let whole = [&b"x\0"[..], &[b'y'; LIMIT - 2]].concat();
        assert!(line(&whole).unwrap().ends_with("yy"));
        let longer = line(&[whole.as_slice(), b"z\0"].concat()).unwrap();
        assert!(longer.ends_with("yy…") && longer.chars().count() == LIMIT + 1);
    }

    #[test]
    fn secrets_of_options() {
        check(&["app", "--password=hunter2", "-v"], "app --password=*** -v");
        check(&["app", "--db-password", "hunter2", "-v"], "app --db-password *** -v");
        check(&["app", "--password", "--verbose"], "app --password --verbose");
        check(
            &["app", "--api_key=k", "-token", "t", "--pass=p"],
            "app --api_key=*** -token *** --pass=***",
        );
        check(&["env", "PGPASSWORD=hunter2", "psql"], "env PGPASSWORD=*** psql");
        check(&["mysqldump", "-uroot", "-phunter2", "db"], "mysqldump -uroot -p*** db");
        check(&["curl", "-u", "ada:hunter2", "http://h/"], "curl -u ada:*** http://h/");
        check(
            &["java", "-Djavax.net.ssl.keyStorePassword=x"],
            "java -Djavax.net.ssl.keyStorePassword=***",
        );
    }

    #[test]
    fn secrets_inside_arguments() {
        check(
            &["git", "clone", "https://ada:hunter2@h:8/x"],
            "git clone https://ada:***@h:8/x",
        );
        check(&["curl", "https://h/?token=abc&z=1"], "curl 'https://h/?token=***&z=1'");
        check(
            &["curl", "-H", "Authorization: Bearer abc.def"],
            "curl -H 'Authorization: Bearer ***'",
        );
        check(
            &["curl", "-d", r#"{"user":"ada","password":"a,b"}"#],
            r#"curl -d '{"user":"ada","password":"***"}'"#,
        );
        check(
            &["sh", "-c", "mysql --password=hunter2 -e 'x'"],
            r"sh -c 'mysql --password=*** -e '\''x'\'''",
        );
        check(
            &["sh", "-c", "curl -H \"X-Token: abc\" h"],
            "sh -c 'curl -H \"X-Token: ***\" h'",
        );
        assert_eq!(
            line(b"app --secret abc rest\0").as_deref(),
            Some("app --secret *** rest")
        );
    }

    #[test]
    fn what_is_no_secret_stays() {
        check(
            &["app", "--password-file=/etc/x", "--max-tokens=9"],
            "app --password-file=/etc/x --max-tokens=9",
        );
        check(&["ssh", "ada@host:22"], "ssh ada@host:22");
        check(
            &["env", "PWD=/home/ada", "PATH=/bin:/usr/bin"],
            "env PWD=/home/ada PATH=/bin:/usr/bin",
        );
        check(&["curl", "http://h:80/a:b@c"], "curl http://h:80/a:b@c");
        check(&["cargo", "test", "token::parse"], "cargo test token::parse");
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let pieces: [&[u8]; 12] = [
            b"--password",
            b"=",
            b":",
            b"\0",
            b"\xff",
            "é".as_bytes(),
            b"\"",
            b"'",
            b" ",
            b"://",
            b"@",
            b"token",
        ];
        for i in 0..pieces.len().pow(4) {
            let text: Vec<u8> = (0..4)
                .flat_map(|p| pieces[i / pieces.len().pow(p) % pieces.len()].to_vec())
                .collect();
            let _ = line(&text);
        }
    }
}
