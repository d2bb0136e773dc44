//! A launch's parameters as text: names and types are read from the shader.

use crate::recording::Dispatch;

/// Largest word shown in decimal where its type is `u32`: larger ones are mostly bit patterns.
const LARGEST_COUNT: u32 = 0x00ff_ffff;

/// Words under the names and types of the shader's `Params`, or in hexadecimal where those cannot be told; words
/// that follow a symbolic integer name it.
pub(super) fn text(dispatch: &Dispatch) -> String {
    let Dispatch { shader, params, live_params, .. } = dispatch;
    let show = |at: usize, show: Show| {
        let live = live_params.iter().find(|live| live.word as usize == at);
        show(params[at]) + &live.map_or(String::new(), |live| format!("(%{})", live.value))
    };
    let known = fields(&shader.source).filter(|f| f.iter().all(|f| f.at + f.words <= params.len()));
    let Some(fields) = known else {
        let words: Vec<String> = (0..params.len()).map(|at| show(at, |w| format!("{w:#x}"))).collect();
        return words.join(" ");
    };
    let field = |field: &Field| {
        let words: Vec<String> = (field.at..field.at + field.words).map(|at| show(at, field.show)).collect();
        match &words[..] {
            [one] => format!("{}={one}", field.name),
            several => format!("{}=[{}]", field.name, several.join(",")),
        }
    };
    fields.iter().map(field).collect::<Vec<_>>().join(" ")
}

/// The form of one word.
type Show = fn(u32) -> String;

/// A member of `Params`, in words.
struct Field {
    name: String,
    at: usize,
    words: usize,
    show: Show,
}

/// The members of a module's `Params`; none when it has none or one has a type other than scalars, vectors of
/// two or four, and arrays of vectors of four.
fn fields(source: &str) -> Option<Vec<Field>> {
    let (_, rest) = source.split_once("struct Params {")?;
    let code = rest.lines().map(|line| line.split_once("//").map_or(line, |(code, _)| code));
    let code = code.collect::<Vec<_>>().join(" ");
    let (mut rest, _) = code.split_once('}')?;
    let mut at: usize = 0;
    let mut fields = Vec::new();
    while let Some((name, tail)) = rest.split_once(':') {
        let end = end_of_type(tail);
        let (words, align, show) = layout(tail[..end].trim())?;
        let start = at.next_multiple_of(align);
        fields.push(Field { name: name.trim().to_owned(), at: start, words, show });
        at = start + words;
        rest = tail[end..].trim_start_matches(',');
    }
    Some(fields).filter(|_| rest.trim().is_empty())
}

/// Length of the type at the start of `text`: up to a comma outside of angle brackets.
fn end_of_type(text: &str) -> usize {
    let mut depth = 0;
    let ends = |c: char| {
        depth += i32::from(c == '<') - i32::from(c == '>');
        c == ',' && depth == 0
    };
    text.find(ends).unwrap_or(text.len())
}

/// Words, alignment in words, and the form of one word.
fn layout(name: &str) -> Option<(usize, usize, Show)> {
    if let Some(inner) = name.strip_prefix("array<vec4<").and_then(|t| t.strip_suffix('>')) {
        let (element, count) = inner.split_once(">,")?;
        let count: usize = count.trim().parse().ok().filter(|&n| n <= 1024)?;
        return Some((4 * count, 4, scalar(element)?));
    }
    for (prefix, width) in [("vec2<", 2), ("vec4<", 4)] {
        if let Some(element) = name.strip_prefix(prefix).and_then(|t| t.strip_suffix('>')) {
            return Some((width, width, scalar(element)?));
        }
    }
    Some((1, 1, scalar(name)?))
}

fn scalar(name: &str) -> Option<Show> {
    match name {
        "u32" => Some(|w| if w <= LARGEST_COUNT { w.to_string() } else { format!("{w:#x}") }),
        "i32" => Some(|w| (w as i32).to_string()),
        "f32" => Some(|w| format!("{:?}", f32::from_bits(w))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Shader;

    #[test]
    fn params_follow_the_layout_of_uniforms() {
        let shown = |source: &str, words: &[u32]| {
            let shader = Shader { label: "", source: source.into() };
            text(&Dispatch {
                shader,
                bindings: Vec::new(),
                params: words.to_vec(),
                grid: [1, 1, 1],
                ..Dispatch::default()
            })
        };
        let source = "struct Params {
            // One: {a}, b.
            a: u32, // a
            b: vec2<f32>,
            c: array<vec4<u32>, 1>,
        }
        fn f() {}";
        let words = [1, 99, 0x3f80_0000, 0, 4, 5, 6, 0x3f80_0000];
        assert_eq!(shown(source, &words), "a=1 b=[1.0,0.0] c=[4,5,6,0x3f800000]");
        assert_eq!(shown(source, &words[..7]), "0x1 0x63 0x3f800000 0x0 0x4 0x5 0x6", "too few words");
        assert_eq!(shown("struct Params { a: elem }", &[17]), "0x11", "a type that only the shader knows");
        assert_eq!(shown("", &[1, 2]), "0x1 0x2");
    }
}
