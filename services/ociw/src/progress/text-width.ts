/** Characters that take two columns: East Asian wide and full-width ones, and pictures (Unicode, EastAsianWidth). */
const wide =
  /^[\u1100-\u115f\u2e80-\u303e\u3041-\ua4cf\ua960-\ua97f\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6\u{1f300}-\u{1faff}\u{20000}-\u{3fffd}]|\p{Emoji_Presentation}/u;

const segmenter = new Intl.Segmenter();

/** How many columns of a terminal `text` takes. It has no control characters. */
export function textWidth(text: string): number {
  return isAscii(text) ? text.length : segmentsOf(text).reduce((sum, segment) => sum + widthOf(segment), 0);
}

/** `text` in at most `width` columns: what does not fit is cut off at the end and marked. */
export function fitted(text: string, width: number, ellipsis: string): string {
  if (textWidth(text) <= width) {
    return text;
  }
  let room = width - textWidth(ellipsis);
  if (room < 0) {
    return "";
  }
  let kept = "";
  for (const segment of segmentsOf(text)) {
    room -= widthOf(segment);
    if (room < 0) {
      break;
    }
    kept += segment;
  }
  return kept + ellipsis;
}

/** `text` with spaces after it up to `width` columns. */
export function padded(text: string, width: number): string {
  return text + " ".repeat(Math.max(0, width - textWidth(text)));
}

function segmentsOf(text: string): string[] {
  return [...segmenter.segment(text)].map(({ segment }) => segment);
}

function widthOf(segment: string): number {
  return wide.test(segment) ? 2 : 1;
}

function isAscii(text: string): boolean {
  return /^[\x20-\x7e]*$/.test(text);
}
