use super::*;
use crate::kernel::work::Work;

fn shows(output: &str, text: &str) -> bool {
    let mut screen = Screen::default();
    screen.sized(20, 5);
    for byte in output.as_bytes() {
        screen.draw(*byte);
    }
    let text: Vec<char> = text.chars().collect();
    screen.behind(&text, false, &mut Work::default()).is_some()
}

#[test]
fn what_stands_left_of_the_cursor() {
    for (output, text) in [
        ("$ ls", "ls"),
        ("$ l\x08ls", "ls"),
        ("\x1b[32m% \x1b[0ml\r\x1b[0K% ls\x1b[4D\x1b[4C", "ls"),
        ("% echo\x08\x08\x08\x08\x1b[34mecho\x1b[0m x", "echo x"),
        ("\x1b]0;title\x07a\x1b]2;x\x1b\\b", "ab"),
        ("% \x1b7\x1b[10C[ok]\x1b8ls", "ls"),
        ("abd\x08\x1b[1@c", "abc"),
        ("lsx\x08 \x08", "ls"),
        ("lsx\x08\x1b[K", "ls"),
        ("vim\x1b[3;3Hword\x1b[5;1H1,5\x1b[3;7H", "word"),
        ("漢字é", "漢字é"),
        // Over the end of a row: as the terminal does it, as bash and as fish do.
        ("$ 0123456789012345678", "0123456789012345678"),
        ("$ 012345678901234567 \r8", "0123456789012345678"),
        ("$ 012345678901234567\r\n8", "0123456789012345678"),
        ("\r\n\n\n\n\n$ 0123456789012345678", "0123456789012345678"),
        ("$ \x1b[?1049h\x1b[2J\x1b[5;5Hx\x1b[?1049lls", "ls"),
        ("x\x1b[3b", "xxxx"),
    ] {
        assert!(shows(output, text), "{output:?}");
    }
    for (output, text) in [
        ("ab\r\n", "ab"),
        ("a\r\nb", "ab"),
        ("ls x", "ls"),
        ("s\x1b[5;1He", "se"),
        ("se\x1b[2J", "se"),
        ("se\r\x1b[K", "se"),
        ("s e", "se"),
        ("se\r**", "se"),
    ] {
        assert!(!shows(output, text), "{output:?}");
    }
}

#[test]
fn it_is_bounded() {
    let mut screen = Screen::default();
    screen.sized(u32::MAX, u32::MAX);
    for row in 1..400 {
        for byte in format!("\x1b[{row};1H\x1b[9999@\x1b[9999b\x1b[9999Cx").bytes() {
            screen.draw(byte);
        }
    }
    assert_eq!(screen.kept.len(), ROWS_KEPT);
    assert!(screen.kept.iter().all(|row| row.cells.len() <= SIZE_MAX));
    assert!(screen.column() <= SIZE_MAX);
}
