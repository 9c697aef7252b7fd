"""The page that encodes and decodes a picture: what tokenizers keep of it, and what a single token does."""

import random
from pathlib import Path
from typing import Any

import gradio as gr

from vistok.app.events import block, listen, message_box
from vistok.app.networks import Networks
from vistok.app.parts import page, quiet
from vistok.app.place import Place
from vistok.app.reconstruction import Kept, keep, with_token
from vistok.app.reconstruction_view import place_of, reconstructions, token_grid
from vistok.errors import UserError

CLICKS = """
element.addEventListener('click', (event) => {
  const cell = event.target.closest('[data-token]');
  if (cell) trigger('click', { position: Number(cell.dataset.token) });
});
"""
MOST = 6  # tokenizers side by side


def reconstruct_page(place: Place, networks: Networks) -> None:
    """Lay out the page."""
    with gr.Tab("Reconstruct", id="reconstruct") as tab:
        with gr.Row():
            picture = _picture()
            with gr.Column():
                names = gr.Dropdown(
                    [], multiselect=True, label="Tokenizers", info="runs, paths, or those that come with vistok",
                    allow_custom_value=True, max_choices=MOST,
                )  # fmt: skip
                go = gr.Button("Encode and decode", variant="primary")
        message = message_box()
        result = block()
        # The picture with its tokens as they were and as they are now, and the one that is chosen.
        state = gr.State(None)
        with gr.Row(visible=False) as editor:
            with gr.Column(min_width=300):
                grid = block(CLICKS)
            with gr.Column(min_width=300):
                which = gr.Dropdown([], label="Change tokens of")
                words = block()
                token = gr.Number(None, precision=0, minimum=0, label="Token")
                with gr.Row():
                    put = gr.Button("Put it there", min_width=100)
                    dice = gr.Button("A random token", min_width=100)
                    undo = gr.Button("All as they were", min_width=100)

    pictures, editing = Pictures(place, networks), [grid, words, token, state]
    listen(tab.select, pictures.offer, [names], [names], message)
    listen(
        go.click, pictures.encode, [picture, names], [result, editor, which, *editing], message, alone=True, once=True
    )
    listen(which.input, pictures.choose, [picture, which], editing, message, alone=True)
    listen(grid.click, pictures.click, [state], editing, message)
    listen(put.click, pictures.put, [state, token], editing, message, alone=True, once=True)
    listen(dice.click, pictures.roll, [state], editing, message, alone=True, once=True)
    listen(undo.click, pictures.reset, [state], editing, message, once=True)


class Pictures:
    """What the page's widgets do."""

    def __init__(self, place: Place, networks: Networks) -> None:
        self.place, self.networks = place, networks

    def tokenizer(self, name: str) -> Any:
        """Return the tokenizer that a name means."""
        return self.networks.tokenizer(self.place.find(name, "tokenizer"))

    def offer(self, chosen: list[str] | None) -> Any:
        """Offer tokenizers, and choose the newest if none is chosen."""
        known = self.place.names("tokenizer")
        return gr.update(choices=known, value=chosen or known[:1])

    def encode(self, file: str | None, chosen: list[str] | None) -> tuple[Any, ...]:
        """Encode and decode the picture with the chosen tokenizers, and show the tokens of the first that has some."""
        if not file:
            raise UserError("drop a picture into the field, choose a file, or paste one")
        if not chosen:
            raise UserError("choose a tokenizer first")
        kept = [keep(name, Path(file), self.tokenizer(name)) for name in chosen]
        editable = [one for one in kept if one.space.kind == "tokens"]
        names = [one.name for one in editable]
        return (
            page(reconstructions(kept)),
            gr.update(visible=bool(editable)),
            gr.update(choices=names, value=next(iter(names), None)),
            *(Edited(editable[0]).shown() if editable else (gr.skip(), gr.skip(), gr.skip(), None)),
        )

    def choose(self, file: str | None, name: str | None) -> tuple[Any, ...]:
        """Show the tokens of another tokenizer."""
        if not (file and name):
            raise UserError("encode a picture first")
        return Edited(keep(name, Path(file), self.tokenizer(name))).shown()

    def click(self, edited: "Edited | None", event: gr.EventData) -> tuple[Any, ...]:
        """Choose the token that was clicked on."""
        return _begun(edited).at(int(event.position)).shown()  # type: ignore[attr-defined]

    def put(self, edited: "Edited | None", token: float | None) -> tuple[Any, ...]:
        """Put another token at the chosen place."""
        return _begun(edited).put(token, self.tokenizer(_begun(edited).kept.name)).shown()

    def roll(self, edited: "Edited | None") -> tuple[Any, ...]:
        """Put a random token at the chosen place."""
        return self.put(edited, random.randrange(_begun(edited).kept.space.codebook_size))

    def reset(self, edited: "Edited | None") -> tuple[Any, ...]:
        """Bring all tokens back."""
        return Edited(_begun(edited).first).shown()


def _picture() -> gr.Image:
    """Return the field for a picture, whose file is passed on as it is: vistok alone opens it."""
    picture = gr.Image(type="filepath", image_mode=None, sources=["upload", "clipboard"], label="Picture", height=260)
    picture.preprocess = lambda payload: payload.path if payload else None  # type: ignore[method-assign]
    return picture


class Edited:
    """A picture whose tokens are changed: as it was first, as it is now, and which token is chosen."""

    def __init__(self, first: Kept, kept: Kept | None = None, position: int | None = None) -> None:
        self.first, self.kept, self.position = first, kept or first, position

    def at(self, position: int) -> "Edited":
        """Return the same with another token chosen."""
        return Edited(self.first, self.kept, position)

    def put(self, token: float | None, tokenizer: Any) -> "Edited":
        """Return the same with this token at the chosen place. Raises UserError if no place is chosen."""
        if self.position is None:
            raise UserError("click on a token in the grid first")
        if token is None:
            raise UserError("type the number of a token first, or take a random one")
        return Edited(self.first, with_token(self.kept, self.position, int(token), tokenizer), self.position)

    def shown(self) -> tuple[Any, ...]:
        """Return the grid, what is said of the chosen token, its number, and this object."""
        rows, columns = self.kept.grid
        changed = int((self.kept.latents != self.first.latents).sum())
        so_far = f" PSNR {self.kept.psnr:.2f} dB with {changed} changed." if changed else ""
        if self.position is None:
            words, token = f"Click on a token to change it.{so_far}", None
        else:
            token = int(self.kept.latents[0, self.position])
            where = place_of(self.position, columns, rows)
            words = f"Token {token:,} of {self.kept.space.codebook_size:,} at {where}.{so_far}"
        return page(token_grid(self.kept, self.first.latents, self.position)), page(quiet(words)), token, self


def _begun(edited: Edited | None) -> Edited:
    if edited is None:
        raise UserError("encode a picture first")
    return edited
