"""What of the page runs in the browser: giving files (drop, paste, choose, camera), our buttons, and the look."""

DROP = """
<div class="mm-drop">
<p class="mm-drop-text">{text}</p>
<p class="mm-actions">
<label class="mm-button mm-choose"><input type="file" accept="{accept}" {multiple}>Choose {what}</label>
{camera}</p>
<div class="mm-camera" hidden><video autoplay playsinline muted aria-label="Camera"></video>
<p class="mm-actions"><button type="button" class="mm-button" data-do="snap">Take the picture</button>
<button type="button" class="mm-button" data-do="close">Close the camera</button></p></div>
<p class="mm-faint mm-telling" role="status" aria-live="polite"></p>
</div>
"""
CAMERA = '<button type="button" class="mm-button" data-do="camera">Use the camera</button>'

# Sends what is dropped, pasted, chosen or taken to `props.route`, and then has the server show it.
DROP_SCRIPT = """
const tell = text => { element.querySelector('.mm-telling').textContent = text; };
const zone = () => element.querySelector('.mm-drop');
async function send(files) {
  for (const file of files) {
    tell(props.telling);
    let refused = '';
    try {
      const answer = await fetch(props.route, {method: 'POST', body: file});
      if (answer.status === 422) refused = (await answer.json()).refused;
      else if (!answer.ok) refused = (await answer.text()).trim();
    } catch (error) { refused = 'the file did not arrive: the server is not there, or it is too large for it'; }
    tell('');
    trigger('upload', {refused});
  }
}
let stream = null;
function close() {
  if (stream) stream.getTracks().forEach(track => track.stop());
  stream = null;
  element.querySelector('.mm-camera').hidden = true;
}
async function open() {
  try {
    stream = await navigator.mediaDevices.getUserMedia({video: {facingMode: 'user'}});
    element.querySelector('.mm-camera video').srcObject = stream;
    element.querySelector('.mm-camera').hidden = false;
  } catch (error) { tell('there is no camera that this page may use: choose a file instead'); }
}
function snap() {
  const video = element.querySelector('.mm-camera video'), canvas = document.createElement('canvas');
  canvas.width = video.videoWidth; canvas.height = video.videoHeight;
  canvas.getContext('2d').drawImage(video, 0, 0);
  canvas.toBlob(picture => { close(); send([picture]); }, 'image/png');
}
element.addEventListener('click', event => {
  const what = event.target.dataset && event.target.dataset.do;
  if (what === 'camera') open(); else if (what === 'snap') snap(); else if (what === 'close') close();
});
element.addEventListener('change', event => {
  if (event.target.type !== 'file') return;
  event.stopPropagation();
  const files = [...event.target.files];
  event.target.value = '';
  send(files);
});
for (const name of ['dragover', 'drop']) document.addEventListener(name, event => event.preventDefault());
element.addEventListener('dragover', event => { event.preventDefault(); zone().classList.add('mm-over'); });
element.addEventListener('dragleave', () => zone().classList.remove('mm-over'));
element.addEventListener('drop', event => {
  event.preventDefault();
  zone().classList.remove('mm-over');
  send([...event.dataTransfer.files]);
});
document.addEventListener('paste', event => {
  const files = [...event.clipboardData.files].filter(file => file.type.startsWith('image/'));
  const inside = document.activeElement.closest('.mm-give');
  const mine = inside ? inside.contains(element) || element.contains(inside) : props.first;
  if (files.length && mine && element.offsetParent) { event.preventDefault(); send(files); }
});
"""

# Buttons in HTML that the server writes anew now and then: one listener for all, and the focus stays where it was.
BUTTONS_SCRIPT = """
let last = null;
element.addEventListener('focusin', event => { last = event.target.dataset.id ? {...event.target.dataset} : null; });
element.addEventListener('click', event => {
  const button = event.target.closest('button[data-action]');
  if (button) trigger('click', {action: button.dataset.action, id: button.dataset.id});
});
watch('value', () => {
  if (!last || document.activeElement !== document.body) return;
  const again = element.querySelector(`[data-action="${last.action}"][data-id="${last.id}"]`);
  if (again) again.focus();
});
"""

CSS = """
.gradio-container { max-width: 1180px !important; margin: 0 auto !important; }
.gradio-container .html-container { padding: 0 !important; }
.block:has(> .html-container > .prose:not(:has(*))) { display: none; }
.mm-head h1 { font-size: 26px; margin: 4px 0 2px; } .mm-head p { margin: 0; color: var(--body-text-color-subdued); }
.mm-use { border-left: 4px solid var(--color-accent); padding: 8px 12px; margin: 12px 0 0;
  background: var(--background-fill-secondary); border-radius: 6px; color: var(--body-text-color) !important; }
.mm-drop { border: 2px dashed var(--border-color-primary); border-radius: 10px; padding: 14px; text-align: center; }
.mm-drop.mm-over { border-color: var(--color-accent); background: var(--background-fill-secondary); }
.mm-drop p, .mm-job p, .mm-result p { margin: 0 0 8px; } .mm-drop .mm-actions { justify-content: center; }
.mm-telling:empty { display: none; } .mm-telling { margin: 8px 0 0 !important; }
.mm-camera video { width: 100%; max-width: 420px; border-radius: 8px; margin: 8px auto; display: block; }
.mm-actions { display: flex; flex-wrap: wrap; gap: 8px; }
.mm-actions > * { margin: 0 !important; }
.mm-button { display: inline-flex; align-items: center; min-height: 40px; padding: 4px 14px; border-radius: 8px;
  border: 1px solid var(--border-color-primary); background: var(--button-secondary-background-fill);
  color: var(--button-secondary-text-color); font: inherit; font-size: 14px; cursor: pointer; }
.mm-button:hover { background: var(--button-secondary-background-fill-hover); }
.mm-choose { position: relative; } .mm-choose input { position: absolute; inset: 0; opacity: 0; cursor: pointer; }
.mm-button:focus-visible, .mm-choose:focus-within, .mm-pictures button:focus-visible, .mm-result a:focus-visible {
  outline: 3px solid var(--color-accent); outline-offset: 2px; }
.mm-pictures { display: flex; flex-wrap: wrap; gap: 10px; padding: 0; margin: 0 0 8px; list-style: none; }
.mm-pictures li { position: relative; margin: 0; }
.mm-pictures img { height: 132px; border-radius: 8px; display: block; }
.mm-pictures button { position: absolute; top: 4px; right: 4px; width: 32px; height: 32px; border-radius: 16px;
  border: 0; background: rgba(0, 0, 0, .65); color: #fff; font-size: 20px; line-height: 1; cursor: pointer; }
.mm-refused img { outline: 3px solid #b3261e; opacity: .75; }
.mm-line { padding: 8px 12px; border-radius: 6px; margin: 0 0 8px; border-left: 4px solid; overflow-wrap: anywhere;
  background: var(--background-fill-secondary); color: var(--body-text-color); font-size: 14px; }
.mm-bad { border-color: #c9362c; } .mm-note { border-color: #d9a03a; } .mm-good { border-color: #3f9350; }
.mm-faint { color: var(--body-text-color-subdued); font-size: 14px; } .mm-empty { padding: 24px 0; }
.mm-reads { margin: 0; overflow-wrap: anywhere; } .mm-reads b { font-weight: 600; }
.mm-jobs { list-style: none; margin: 0; padding: 0; }
.mm-job { display: flex; gap: 14px; margin: 0 0 12px; padding: 12px; border-radius: 10px;
  border: 1px solid var(--border-color-primary); background: var(--block-background-fill); }
.mm-preview { width: 128px; min-height: 96px; align-self: flex-start; border-radius: 8px; flex: none; object-fit: cover;
  image-rendering: auto; }
.mm-none { background: var(--background-fill-secondary); }
.mm-about { flex: 1; min-width: 0; } .mm-prompt { font-weight: 500; overflow-wrap: anywhere; }
.mm-bar { height: 10px; border-radius: 5px; background: var(--background-fill-secondary); overflow: hidden;
  margin: 8px 0; border: 1px solid var(--border-color-primary); }
.mm-bar div { height: 100%; background: var(--color-accent); }
.mm-result { padding: 12px; margin: 0 0 16px; border-radius: 10px; border: 1px solid var(--border-color-primary);
  background: var(--block-background-fill); }
.mm-videos { display: grid; gap: 10px; margin: 0 0 10px; } .mm-of-2 { grid-template-columns: 1fr 1fr; }
.mm-of-3 { grid-template-columns: 1fr 1fr 1fr; }
.mm-videos figure { margin: 0; min-width: 0; } .mm-videos video { width: 100%; max-height: 420px; border-radius: 8px;
  background: #000; display: block; } .mm-of-1 video { max-width: 420px; }
.mm-videos figcaption { font-size: 14px; margin-top: 6px; display: flex; flex-wrap: wrap; gap: 4px 12px;
  overflow-wrap: anywhere; } .mm-downloads { color: var(--body-text-color-subdued); }
.mm-downloads a { color: var(--link-text-color); text-decoration: underline; margin-left: 6px; padding: 4px 0; }
@media (max-width: 640px) { .mm-of-3 { grid-template-columns: 1fr; } .mm-preview { width: 84px; min-height: 64px; }
  .gradio-container { padding: 8px !important; } .mm-downloads a { padding: 8px 4px; } }
"""
